"""`make ui`: the page of the runs, and the server that shows it."""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.checkout import PROJECT

from liquidgen.cli.runs_page import prepare_view
from liquidgen.config.params import load_params
from liquidgen.tracking import open_run
from liquidgen.tracking.store import Store

PARAMS = PROJECT / "params.yaml"
EXPERIMENT = load_params(PARAMS).tracking.experiment
PORT = 5000  # what users know of MLflow


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout in which one training was recorded."""
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


def view(store: Store, page: str) -> dict:
    """What MLflow reads when it opens the page: the state that the page's address names."""
    experiment = store.client.get_experiment(page.split("/")[2])
    key = page.split("viewStateShareKey=")[1]
    return json.loads(experiment.tags[f"mlflow.sharedViewState.{key}"])


def test_the_page_belongs_to_the_experiment_of_params_yaml(store: Store):
    page = prepare_view(store, EXPERIMENT)
    assert store.client.get_experiment(page.split("/")[2]).name == EXPERIMENT
    assert "workflowType=machine_learning" in page


def test_every_setting_among_the_columns_is_one_of_params_yaml(store: Store):
    columns = view(store, prepare_view(store, EXPERIMENT))["selectedColumns"]
    shown = {column.split("`")[1] for column in columns if column.startswith("params.")}
    assert {"dataset", "model"} < shown <= load_params(PARAMS).flat().keys()


def test_every_chart_has_a_section_and_each_name_is_used_once(store: Store):
    state = view(store, prepare_view(store, EXPERIMENT))
    sections = [section["uuid"] for section in state["compareRunSections"]]
    charts = [chart["uuid"] for chart in state["compareRunCharts"]]
    assert {chart["metricSectionId"] for chart in state["compareRunCharts"]} == set(sections)
    assert len(set(sections)) == len(sections)
    assert len(set(charts)) == len(charts)


def test_previews_are_those_of_the_last_step_of_the_newest_training(store: Store):
    state = view(store, prepare_view(store, EXPERIMENT))
    (preview,) = (c for c in state["compareRunCharts"] if c.get("imageKeys") == ["preview"])
    assert preview["step"] == 30


def test_an_experiment_without_runs_has_a_page(store: Store):
    assert view(store, prepare_view(store, "empty"))["compareRunCharts"]


@pytest.fixture
def taken_port():
    """Port 5000, taken by somebody else."""
    with socket.socket() as taken:
        with contextlib.suppress(OSError):  # it is taken already
            taken.bind(("127.0.0.1", PORT))
            taken.listen()
        yield PORT


def environment(**more: str) -> dict[str, str]:
    unset = {"MLFLOW_TRACKING_URI", "BROWSER", "DISPLAY", "WAYLAND_DISPLAY"}
    return {key: value for key, value in os.environ.items() if key not in unset} | more


@contextlib.contextmanager
def started(root: Path, **more: str) -> Iterator[subprocess.Popen]:
    """`make ui`, without make, as in a terminal: Ctrl-C reaches its whole process group."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # background jobs ignore Ctrl-C
    process = subprocess.Popen(
        [sys.executable, "-m", "liquidgen.cli.ui"],
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
        with contextlib.suppress(ProcessLookupError):  # it has ended, as it should
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def told_until(line: str, process: subprocess.Popen) -> str:
    """What the process says before a line."""
    told = ""
    for said in process.stdout:
        if said.startswith(line):
            return told
        told += said
    raise AssertionError(f"it ended without {line!r}: {told}")


@pytest.mark.skipif(sys.platform != "linux", reason="reads the list of processes of Linux")
def test_the_server_shows_the_runs_on_loopback_and_ends_with_ctrl_c(root: Path, taken_port: int):
    browser, opened = root / "browser", root / "opened.txt"
    browser.write_text(f'#!/bin/sh\necho "$1" > "{opened}"\n')
    browser.chmod(0o755)
    with started(root, BROWSER=str(browser)) as server:
        told = told_until("stop with Ctrl-C", server)
        assert f"port {taken_port} is taken" in told
        page = told.split("table of runs:")[1].split()[0]
        assert opened.read_text().strip() == page
        address, port = page.split("/#/")[0], int(page.split(":")[2].split("/")[0])
        assert run_names(address, page.split("/experiments/")[1].split("/")[0]) == ["first"]
        assert listening(port) == {"127.0.0.1"}
        os.killpg(server.pid, signal.SIGINT)
        os.killpg(server.pid, signal.SIGINT)  # an impatient user
        rest, _ = server.communicate(timeout=60)
        assert (rest.strip(), server.returncode) == ("stopped", 0)
        assert listening(port) == set()
        with pytest.raises(ProcessLookupError):
            os.killpg(server.pid, 0)


def run_names(address: str, experiment: str) -> list[str]:
    """Names of an experiment's runs, as a server tells them, without the starts of their ids."""
    query = json.dumps({"experiment_ids": [experiment]}).encode()
    header = {"Content-Type": "application/json"}
    search = urllib.request.Request(f"{address}/api/2.0/mlflow/runs/search", query, header)
    with urllib.request.urlopen(search, timeout=30) as answer:
        return [run["info"]["run_name"].split(" ", 1)[1] for run in json.load(answer)["runs"]]


def listening(port: int) -> set[str]:
    """Addresses of this machine at which something listens on a port, from Linux's table."""
    found = set()
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        address, state = line.split()[1], line.split()[3]
        host, at = address.split(":")
        if int(at, 16) == port and state == "0A":
            found.add(socket.inet_ntoa(bytes.fromhex(host)[::-1]))
    return found


def test_a_store_out_of_reach_is_one_line(root: Path):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        uri = f"http://127.0.0.1:{probe.getsockname()[1]}"
    with started(root, MLFLOW_TRACKING_URI=uri) as process:
        output, _ = process.communicate(timeout=120)
    assert process.returncode == 1
    _, error = output.strip().splitlines()
    assert error.startswith(f"error: MLflow does not open {uri}: ")
