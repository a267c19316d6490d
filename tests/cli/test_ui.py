"""`liquidgen ui`: the view of the runs, and the server that shows it."""

import contextlib
import json
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.checkout import PROJECT
from helpers.servers import listening, status, unused_port

from liquidgen.cli import ui
from liquidgen.cli.mlflow_view import save_view, shared_page
from liquidgen.cli.ui import serve
from liquidgen.config.params import load_params
from liquidgen.tracking import open_run
from liquidgen.tracking.store import Store
from liquidgen.utils.errors import UserError

PARAMS = PROJECT / "params.yaml"
EXPERIMENT = load_params(PARAMS).tracking.experiment
PORT = 5000  # MLflow's default


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout with one recorded training."""
    folder = tmp_path_factory.mktemp("checkout")
    shutil.copy(PARAMS, folder)
    with pytest.MonkeyPatch.context() as environment:
        environment.delenv("MLFLOW_TRACKING_URI", raising=False)
        params = load_params(PARAMS).flat()
        with open_run(folder, EXPERIMENT, "train", name="first", params=params) as run:
            run.log_metrics({"validation_loss": 1.5, "num_steps": 30}, step=30)
    return folder


@pytest.fixture
def store(root: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return Store(root)


def view(store: Store, experiment_id: str) -> dict:
    """The state that MLflow loads when it opens the page of an experiment."""
    key = shared_page(experiment_id).split("viewStateShareKey=")[1]
    experiment = store.client.get_experiment(experiment_id)
    return json.loads(experiment.tags[f"mlflow.sharedViewState.{key}"])


def test_page_is_of_experiment_in_params_yaml(store: Store):
    experiment_id = save_view(store, EXPERIMENT)
    assert store.client.get_experiment(experiment_id).name == EXPERIMENT
    assert shared_page(experiment_id).startswith(f"#/experiments/{experiment_id}/runs")
    assert "workflowType=machine_learning" in shared_page(experiment_id)


def test_view_fits_into_a_tag_of_an_experiment(store: Store):
    state = json.dumps(view(store, save_view(store, EXPERIMENT)))
    assert len(state) <= 5000  # of MLflow


def test_columns_are_in_order_and_have_widths(store: Store):
    state = view(store, save_view(store, EXPERIMENT))
    assert state["columnOrder"][1:] == state["selectedColumns"]
    assert state["columnWidths"].keys() == set(state["columnOrder"])
    assert state["orderByKey"] in state["selectedColumns"]


def test_columns_of_settings_exist_in_params_yaml(store: Store):
    columns = view(store, save_view(store, EXPERIMENT))["selectedColumns"]
    shown = {column.split("`")[1] for column in columns if column.startswith("params.")}
    assert {"dataset", "model"} < shown <= load_params(PARAMS).flat().keys()


def test_charts_have_sections_and_unique_names(store: Store):
    state = view(store, save_view(store, EXPERIMENT))
    sections = [section["uuid"] for section in state["compareRunSections"]]
    charts = [chart["uuid"] for chart in state["compareRunCharts"]]
    assert {chart["metricSectionId"] for chart in state["compareRunCharts"]} < set(sections)
    assert len(set(sections)) == len(sections)
    assert len(set(charts)) == len(charts)


def test_charts_begin_with_validation_loss_and_scores(store: Store):
    charts = view(store, save_view(store, EXPERIMENT))["compareRunCharts"]
    assert [chart.get("metricKey") for chart in charts[:3]] == [
        "train/validation_loss",
        "evaluate/kid",
        "evaluate/fd",
    ]


def test_view_of_experiment_without_runs(store: Store):
    assert view(store, save_view(store, "empty"))["compareRunCharts"]


@pytest.fixture
def taken_port():
    """Port 5000, in use by another program."""
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with contextlib.suppress(OSError):  # already in use
            taken.bind(("127.0.0.1", PORT))
            taken.listen()
        yield PORT


def environment(**more: str) -> dict[str, str]:
    unset = {"MLFLOW_TRACKING_URI", "BROWSER", "DISPLAY", "WAYLAND_DISPLAY"}
    return {key: value for key, value in os.environ.items() if key not in unset} | more


@contextlib.contextmanager
def started(root: Path, **more: str) -> Iterator[subprocess.Popen]:
    """`liquidgen ui` as in a terminal, where Ctrl-C reaches the whole process group."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # background jobs ignore Ctrl-C
    process = subprocess.Popen(
        [sys.executable, "-m", "liquidgen", "ui"],
        cwd=root,
        env=environment(**more),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):  # already ended, as it should
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def output_before(line: str, process: subprocess.Popen) -> str:
    """Return what the process prints before a line."""
    output = ""
    for printed in process.stdout:
        if printed.startswith(line):
            return output
        output += printed
    raise AssertionError(f"it ended without {line!r}: {output}")


@pytest.mark.skipif(sys.platform != "linux", reason="reads the list of processes of Linux")
def test_server_on_loopback_ends_with_ctrl_c(root: Path, taken_port: int):
    browser, opened = root / "browser", root / "opened.txt"
    browser.write_text(f'#!/bin/sh\necho "$1" > "{opened}"\n')
    browser.chmod(0o755)
    with started(root, BROWSER=str(browser)) as server:
        output = output_before("stop with Ctrl-C", server)
        assert f"port {taken_port} is in use" in output
        page = output.split("table of runs:")[1].split()[0]
        assert opened.read_text().strip() == page
        port = int(page.split(":")[2].split("/")[0])
        address = f"http://127.0.0.1:{port}"
        with sqlite3.connect(root / "mlflow.db") as database:
            query = "SELECT experiment_id FROM experiments WHERE name = ?"
            (experiment_id,) = database.execute(query, [EXPERIMENT]).fetchone()
        assert run_names(address, str(experiment_id)) == ["first"]
        assert listening(port) == {"127.0.0.1"}
        assert status(f"{address}/", Host="attacker.example") == 403
        assert status(f"{address}/", Host=f"127.0.0.1:{port}") == 200
        os.killpg(server.pid, signal.SIGINT)
        os.killpg(server.pid, signal.SIGINT)  # an impatient user
        rest, _ = server.communicate(timeout=60)
        assert (rest.strip(), server.returncode) == ("stopped", 0)
        assert listening(port) == set()
        with pytest.raises(ProcessLookupError):
            os.killpg(server.pid, 0)


def run_names(address: str, experiment: str) -> list[str]:
    """Names of an experiment's runs on a server."""
    query = json.dumps({"experiment_ids": [experiment]}).encode()
    header = {"Content-Type": "application/json"}
    search = urllib.request.Request(f"{address}/api/2.0/mlflow/runs/search", query, header)
    with urllib.request.urlopen(search, timeout=30) as answer:
        return [run["info"]["run_name"] for run in json.load(answer)["runs"]]


def test_unreachable_store_is_one_line_without_password(root: Path):
    address = f"127.0.0.1:{unused_port()}"
    with started(root, MLFLOW_TRACKING_URI=f"http://bob:s3cr3t@{address}") as process:
        output, _ = process.communicate(timeout=120)
    assert process.returncode == 1
    _, error = output.strip().splitlines()
    assert error.startswith(f"error: MLflow cannot open http://{address}: ")
    assert "s3cr3t" not in output


def test_address_of_store_is_not_on_command_line(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
):
    """Which all users of a machine can read."""
    commands = []

    class Server(contextlib.AbstractContextManager):
        def __init__(self, command: list[str], *, env: dict[str, str], **options: object) -> None:
            commands.append(command)
            assert env["MLFLOW_BACKEND_STORE_URI"].endswith("/mlflow.db?timeout=2.0")

        def __exit__(self, *error: object) -> None:
            """Nothing was started."""

        def poll(self, timeout: float | None = None) -> int:
            return 1

        terminate = wait = poll

    monkeypatch.chdir(root)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setattr(subprocess, "Popen", Server)
    monkeypatch.setattr(signal, "signal", lambda *arguments: None)
    with pytest.raises(UserError, match="did not start"):
        serve()
    assert [word for command in commands for word in command if "mlflow.db" in word] == []


def test_server_that_never_answers_is_one_line(root: Path, monkeypatch: pytest.MonkeyPatch):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        uri = f"http://127.0.0.1:{silent.getsockname()[1]}"
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        monkeypatch.setattr(ui, "STORE_TIMEOUT", 0.5)
        monkeypatch.chdir(root)
        with pytest.raises(UserError, match=rf"cannot open {uri}: no answer within 0.5 s"):
            serve()
