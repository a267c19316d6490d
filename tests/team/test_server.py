"""A team's MLflow server: passwords, PostgreSQL, a restart amid trainings, runs that move there."""

import os
import re
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
from helpers.checkout import PROJECT
from helpers.postgres import NEEDS_POSTGRES, PASSWORD, postgres
from helpers.servers import listening, status
from mlflow import MlflowClient
from PIL import Image
from sqlalchemy import create_engine, text

from liquidgen.tracking import open_run
from liquidgen.tracking.sending import open_store, replay

pytestmark = NEEDS_POSTGRES
WORD = "a-password-of-the-admin"
LOGGER = """
import sys, time
from pathlib import Path
from liquidgen.tracking import open_run

root, seconds = Path(sys.argv[1]), float(sys.argv[2])
slowest, step, began = 0.0, 0, time.monotonic()
with open_run(root, "liquidgen", "train", name=root.name, params={"seed": 1}) as run:
    while time.monotonic() - began < seconds:
        before = time.monotonic()
        run.log_metrics({"loss": 1 / (1 + step)}, step)
        slowest = max(slowest, time.monotonic() - before)
        step += 1
        time.sleep(0.05)
print(step, slowest)
"""


@pytest.fixture(scope="module")
def database_server() -> Iterator[str]:
    with postgres() as address:
        yield address


@pytest.fixture
def database(database_server: str, request: pytest.FixtureRequest) -> str:
    """Address of an empty database for one test."""
    name = re.sub(r"\W", "_", request.node.name)
    engine = create_engine(database_server, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(f"create database {name}"))
    engine.dispose()
    return database_server.replace("/postgres", f"/{name}")


@pytest.fixture
def port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return probe.getsockname()[1]


def command(folder: Path, port: int, *options: str) -> list[str]:
    return [sys.executable, "-m", "liquidgen", "server", str(folder), f"--port={port}", *options]


@contextmanager
def server(
    folder: Path, database: str, port: int, *options: str
) -> Iterator[tuple[subprocess.Popen, str]]:
    """The server, once it listens, and what it has said so far."""
    variables = {"MLFLOW_BACKEND_STORE_URI": database, "MLFLOW_AUTH_ADMIN_PASSWORD": WORD}
    with subprocess.Popen(
        command(folder, port, *options),
        env=os.environ | variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            said = ""
            while "stop with Ctrl-C" not in said:
                line = process.stdout.readline()
                assert line, process.stderr.read()
                said += line
            yield process, said
        finally:
            process.send_signal(signal.SIGINT)
            process.wait()


def refusal(folder: Path, database: str, port: int, *options: str) -> str:
    """The only line that a server prints which does not start."""
    done = subprocess.run(
        command(folder, port, *options),
        env=os.environ | {"MLFLOW_BACKEND_STORE_URI": database},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 1
    assert PASSWORD not in done.stdout + done.stderr
    [line] = done.stderr.splitlines()
    return line


@pytest.fixture
def client(port: int, monkeypatch: pytest.MonkeyPatch) -> MlflowClient:
    """A client with the admin's password, which processes of the test have, too."""
    for name, value in account(port).items():
        monkeypatch.setenv(name, value)
    return MlflowClient(f"http://127.0.0.1:{port}")


def account(port: int) -> dict[str, str]:
    uri = f"http://127.0.0.1:{port}"
    names = {"MLFLOW_TRACKING_USERNAME": "admin", "MLFLOW_TRACKING_PASSWORD": WORD}
    return names | {"MLFLOW_TRACKING_URI": uri}


def runs(client: MlflowClient) -> dict[str, Any]:
    """The runs of the experiment by name."""
    experiment = client.get_experiment_by_name("liquidgen")
    found = client.search_runs([experiment.experiment_id]) if experiment else []
    assert len({run.info.run_name for run in found}) == len(found)
    return {run.info.run_name: run for run in found}


def checkout(root: Path) -> Path:
    root.mkdir()
    shutil.copy(PROJECT / "params.yaml", root)
    return root


def test_server_wants_a_password_and_keeps_secrets(tmp_path, database, port):
    folder = tmp_path / "team"
    with server(folder, database, port) as (process, said):
        assert listening(port) == {"127.0.0.1"}
        page = f"http://127.0.0.1:{port}/api/2.0/mlflow/experiments/get?experiment_id=0"
        assert status(page) == 401
        assert status(page, Authorization="Basic YWRtaW46cGFzc3dvcmQ=") == 401
        assert status(page, Host="evil.example") == 403
        family = [process, *psutil.Process(process.pid).children(recursive=True)]
        shown = "".join(" ".join(psutil.Process(one.pid).cmdline()) for one in family)
        log = (folder / "server.log").read_text()
    for secret in (PASSWORD, database, WORD):
        assert secret not in said + shown + log
    for path in folder.iterdir():
        assert path.is_dir() or not stat.S_IMODE(path.stat().st_mode) & 0o077, path


@pytest.mark.fault("server: a team's MLflow restarts amid two trainings")
@pytest.mark.usefixtures("thorough")
def test_restart_amid_two_trainings_loses_and_doubles_nothing(tmp_path, database, port, client):
    roots = [checkout(tmp_path / name) for name in ("first", "second")]
    with server(tmp_path / "team", database, port):
        logging = [
            subprocess.Popen(
                [sys.executable, "-c", LOGGER, str(root), "25"], stdout=subprocess.PIPE, text=True
            )
            for root in roots
        ]
        deadline = time.monotonic() + 60
        while len(runs(client)) < 2 and time.monotonic() < deadline:
            time.sleep(0.2)
    assert all(process.poll() is None for process in logging)
    with server(tmp_path / "team", database, port):
        printed = [process.communicate(timeout=180)[0].split() for process in logging]
        for root in roots:  # what a closed run had not sent, as the next run or `ui` does
            replay(open_store(root), root)
        found = runs(client)
        for root, (steps, slowest) in zip(roots, printed, strict=True):
            run = found[root.name]
            history = client.get_metric_history(run.info.run_id, "train/loss")
            assert sorted(point.step for point in history) == list(range(int(steps)))
            assert float(slowest) < 5


def test_runs_of_a_checkout_arrive(tmp_path, database, port, client, monkeypatch):
    root = checkout(tmp_path / "alone")
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    for name in ("nano", "nano epochs=24"):
        with open_run(root, "liquidgen", "train", name=name, params={"epochs": 24}) as run:
            for step in range(3):
                run.log_metrics({"loss": 1 / (1 + step)}, step)
            run.log_image(Image.new("RGB", (40, 24), "teal"), "preview", 2)
    before = runs(MlflowClient(f"sqlite:///{root}/mlflow.db"))
    with server(tmp_path / "team", database, port, f"--copy-from={root}/mlflow.db") as (_, said):
        assert "copied 2 runs" in said
        shutil.move(root / "mlflow.db", tmp_path)
        shutil.rmtree(root)
        after = runs(client)
        assert after.keys() == before.keys()
        for name, run in after.items():
            assert run.info.run_id == before[name].info.run_id
            assert run.info.start_time == before[name].info.start_time
            assert run.data.params == {"epochs": "24"}
            assert [one.value for one in client.get_metric_history(run.info.run_id, "train/loss")]
            [image] = [
                file.path
                for file in client.list_artifacts(run.info.run_id, "images")
                if file.path.endswith(".png")
            ]
            local = client.download_artifacts(run.info.run_id, image, str(tmp_path))
            with Image.open(local) as shown:
                assert shown.size == (40, 24)
        # and others join them
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{port}")
        root = checkout(tmp_path / "other")
        with open_run(root, "liquidgen", "train", name="third", params={}) as run:
            run.log_metrics({"loss": 1.0}, 1)
        assert len(runs(client)) == 3
    again = refusal(tmp_path / "team", database, port, f"--copy-from={tmp_path}/mlflow.db")
    assert again.endswith("has runs already; only an empty database takes others")


def test_database_that_refuses_or_is_none_is_one_line(tmp_path, database, port):
    wrong = database.replace("pa%25ss", "other")
    assert "password authentication failed" in refusal(tmp_path, wrong, port)
    with socket.create_server(("127.0.0.1", 0)) as closed:
        unused = closed.getsockname()[1]
    nobody = re.sub(r"@127.0.0.1:\d+", f"@127.0.0.1:{unused}", database)
    assert "Connection refused" in refusal(tmp_path, nobody, port)
    missing = refusal(tmp_path, database, port, f"--copy-from={tmp_path}/none.db")
    assert missing.endswith("no such file; give the mlflow.db of a checkout")
    assert "must be postgresql://" in refusal(tmp_path, "sqlite:///mlflow.db", port)
    with socket.create_server(("127.0.0.1", port)):
        assert refusal(tmp_path, database, port).endswith("give another --port")
