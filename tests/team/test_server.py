"""A team's MLflow server: passwords, PostgreSQL, a restart amid trainings, runs that move there."""

import json
import os
import re
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import psutil
import pytest
from helpers.checkout import PROJECT
from helpers.postgres import NEEDS_POSTGRES, postgres
from helpers.servers import listening, status, unused_port
from mlflow import MlflowClient
from PIL import Image
from sqlalchemy import create_engine, text

from liquidgen.tracking import open_run
from liquidgen.tracking.sending import open_store, replay

pytestmark = NEEDS_POSTGRES
WORD = "a-password-of-the-admin"
ANN = "a-password-of-ann"
LOGGER = """
import sys, time
from pathlib import Path
from liquidgen.tracking import open_run

root = Path(sys.argv[1])
slowest, step = 0.0, 0
with open_run(root, "liquidgen", "train", name=root.name, params={"seed": 1}) as run:
    while not (root / "enough").exists():
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
    return unused_port()


def command(folder: Path, port: int, *options: str) -> list[str]:
    return [sys.executable, "-m", "liquidgen", "server", str(folder), f"--port={port}", *options]


@contextmanager
def server(
    folder: Path, database: str, port: int, *options: str, word: str = WORD
) -> Iterator[tuple[subprocess.Popen, str]]:
    """The server, once it listens, and what it has said so far."""
    variables = {"MLFLOW_BACKEND_STORE_URI": database, "MLFLOW_AUTH_ADMIN_PASSWORD": word}
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


def secrets_in(database: str) -> list[str]:
    quoted = database.partition("://")[2].partition(":")[2].partition("@")[0]
    return [quoted, unquote(quoted)] if quoted else []


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
    for secret in secrets_in(database):
        assert secret not in done.stdout + done.stderr
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


def history(client: MlflowClient, run: Any) -> list[tuple[int, float]]:
    """Steps and values of a run's loss."""
    found = client.get_metric_history(run.info.run_id, "train/loss")
    return [(point.step, point.value) for point in found]


def login(word: str) -> dict[str, str]:
    """Headers of a request of the admin, in JSON."""
    known = b64encode(f"admin:{word}".encode()).decode()
    return {"Authorization": f"Basic {known}", "Content-Type": "application/json"}


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
    for secret in (*secrets_in(database), WORD):
        assert secret not in said + shown + log
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    for name in ("auth.ini", "secret_key"):
        assert stat.S_IMODE((folder / name).stat().st_mode) == 0o600


@pytest.mark.fault("server: a team's MLflow starts with another password")
@pytest.mark.usefixtures("thorough")
def test_first_start_makes_a_password_and_others_may_browse(tmp_path, database, port):
    address = "https://mlflow.example.org"
    page = f"http://127.0.0.1:{port}/ajax-api/2.0/mlflow/experiments/search"
    folder = tmp_path / "team"

    def search(word: str, **headers: str) -> int:
        return status(page, b'{"max_results": 1}', **login(word), **headers)

    with server(folder, database, port, f"--address={address}", word="") as (_, said):
        assert f"in {folder}/admin_password" in said
        word = (folder / "admin_password").read_text()
        assert search(word, Host="mlflow.example.org", Origin=address) == 200
        assert search(word, Host="mlflow.example.org", Origin="https://evil.example") == 403
    with server(folder, database, port) as (_, said):  # another password in the variable
        assert "as at the first start" in said
        assert search(WORD) == 401
        assert search(word) == 200


@pytest.mark.fault("server: a team's MLflow restarts amid two trainings")
@pytest.mark.usefixtures("thorough")
def test_restart_amid_two_trainings_loses_and_doubles_nothing(tmp_path, database, port, client):
    roots = [checkout(tmp_path / name) for name in ("first", "second")]
    with server(tmp_path / "team", database, port):
        logging = [
            subprocess.Popen(
                [sys.executable, "-c", LOGGER, str(root)], stdout=subprocess.PIPE, text=True
            )
            for root in roots
        ]
        deadline = time.monotonic() + 60
        while len(runs(client)) < 2 and time.monotonic() < deadline:
            time.sleep(0.2)
        assert len(runs(client)) == 2
    with server(tmp_path / "team", database, port):
        for root in roots:
            (root / "enough").touch()
        printed = [process.communicate(timeout=180)[0].split() for process in logging]
        for root in roots:  # what a closed run had not sent, as the next run or `ui` does
            replay(open_store(root), root)
        found = runs(client)
        for root, (steps, slowest) in zip(roots, printed, strict=True):
            run = found[root.name]
            assert sorted(step for step, _ in history(client, run)) == list(range(int(steps)))
            assert float(slowest) < 5


def test_runs_of_a_checkout_arrive(tmp_path, database, port, client, monkeypatch):
    root = checkout(tmp_path / "alone")
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    for name in ("nano", "nano epochs=24"):
        with open_run(root, "liquidgen", "train", name=name, params={"epochs": 24}) as run:
            for step in range(3):
                run.log_metrics({"loss": 1 / (1 + step)}, step)
            run.log_image(Image.new("RGB", (40, 24), "teal"), "preview", 2)
    copied = root / "mlflow.db"
    alone = MlflowClient(f"sqlite:///{copied}")
    alone.create_registered_model("painter")
    before = runs(alone)
    histories = {name: history(alone, run) for name, run in before.items()}
    assert all(len(points) == 3 for points in histories.values())
    with server(tmp_path / "team", database, port, f"--copy-from={copied}") as (_, said):
        assert "copied 2 runs" in said
        shutil.rmtree(root / "mlruns")
        after = runs(client)
        assert after.keys() == before.keys()
        for name, run in after.items():
            assert run.info.run_id == before[name].info.run_id
            assert run.info.start_time == before[name].info.start_time
            assert run.data.params == {"epochs": "24"}
            assert history(client, run) == histories[name]
            [image] = [
                file.path
                for file in client.list_artifacts(run.info.run_id, "images")
                if file.path.endswith(".png")
            ]
            local = client.download_artifacts(run.info.run_id, image, str(tmp_path))
            with Image.open(local) as shown:
                assert shown.size == (40, 24)
        assert client.get_registered_model("painter").name == "painter"
        client.create_experiment("later")  # with a number of PostgreSQL's own
        # and others join them, in the same experiment
        users = f"http://127.0.0.1:{port}/api/2.0/mlflow/users/create"
        asked = json.dumps({"username": "ann", "password": ANN}).encode()
        assert status(users, asked, **login(WORD)) == 200
        monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "ann")
        monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", ANN)
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{port}")
        root = checkout(tmp_path / "other")
        with open_run(root, "liquidgen", "train", name="third", params={}) as run:
            run.log_metrics({"loss": 1.0}, 1)
        assert len(runs(client)) == 3
    again = refusal(tmp_path / "team", database, port, f"--copy-from={copied}")
    assert again.endswith("has artifacts already; give another folder")
    again = refusal(tmp_path / "new", database, port, f"--copy-from={copied}")
    assert again.endswith("of an earlier --copy-from, start without it")


def test_database_that_refuses_or_is_none_is_one_line(tmp_path, database, port):
    wrong = database.replace("pa%25ss", "other")
    assert "password authentication failed" in refusal(tmp_path, wrong, port)
    nobody = re.sub(r"@127.0.0.1:\d+", f"@127.0.0.1:{unused_port()}", database)
    assert "Connection refused" in refusal(tmp_path, nobody, port)
    missing = refusal(tmp_path, database, port, f"--copy-from={tmp_path}/none.db")
    assert missing.endswith("no such file; give the mlflow.db of a checkout")
    assert "must be set to postgresql://" in refusal(tmp_path, "sqlite:///mlflow.db", port)
    everywhere = refusal(tmp_path, database, port, "--host=0.0.0.0")
    assert everywhere.endswith("also give --address, by which others reach the server")
    with socket.create_server(("127.0.0.1", port)):
        assert refusal(tmp_path, database, port).endswith("give another --host or --port")
