"""Servers that answer strangely: a stage goes on within seconds, and nothing is lost."""

import itertools
import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.mlflow_server import Proxy, mlflow_proxy
from helpers.tracking import logged_steps, mlflow_id_of, opened, stored, trained
from PIL import Image

from liquidgen.tracking import answers, relay
from liquidgen.tracking.store import Store

pytestmark = pytest.mark.fault("MLflow that answers strangely")

PASSWORD = "s3cr3tPASSW0RD"
TEXT = [("Content-Type", "text/plain")]
JSON = [("Content-Type", "application/json")]


@pytest.fixture(scope="module")
def server(database: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    folder = tmp_path_factory.mktemp("server")
    with mlflow_proxy(Path(shutil.copy(database, folder)), folder / "artifacts") as proxy:
        yield proxy


@pytest.fixture
def proxy(server: Proxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    """MLflow's server, set as MLFLOW_TRACKING_URI."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.url)
    yield server
    server.answer = lambda path: None


def dripping() -> Iterator[bytes]:
    while True:
        time.sleep(0.1)
        yield b" "


STRANGE = {
    "503 with Retry-After": lambda: ("503 Busy", [*TEXT, ("Retry-After", "3600")], [b"later"]),
    "429 with Retry-After": lambda: ("429 Slow", [*TEXT, ("Retry-After", "3600")], [b"later"]),
    "drips": lambda: ("200 OK", JSON, dripping()),
    "never ends": lambda: ("200 OK", JSON, itertools.repeat(b" " * 2**16)),
    "never answers": lambda: (time.sleep(60), ("200 OK", JSON, [b"{}"]))[1],
}


@pytest.mark.parametrize("kind", STRANGE)
def test_strange_server_costs_seconds_and_no_points(
    proxy: Proxy, tmp_path: Path, kind: str, monkeypatch, caplog: pytest.LogCaptureFixture
):
    if kind != "drips":  # the others need not cost as long here
        monkeypatch.setattr(relay, "ANSWER_TIMEOUT_SECONDS", 0.5)
    monkeypatch.setattr(answers, "MAX_BYTES", 2**20)
    proxy.answer = lambda path: STRANGE[kind]()
    started = time.monotonic()
    with opened(tmp_path, journal=tmp_path / "work/train/key/metrics.jsonl") as run:
        begun = time.monotonic()
        run.log_metrics({"loss": 1.0}, 0)
        assert run.run_id
        logged = time.monotonic()
    ended = time.monotonic()
    assert begun - started < 5
    assert logged - begun < 1
    assert ended - logged < 5
    assert len(caplog.messages) == 1
    assert f"cannot write to {proxy.url} now" in caplog.text
    proxy.answer = lambda path: None
    monkeypatch.setattr(relay, "ANSWER_TIMEOUT_SECONDS", 3.0)
    with opened(tmp_path, "sample"):
        pass
    assert logged_steps(tmp_path, mlflow_id_of(tmp_path, run.run_id)) == [0]


def test_answer_that_drips_is_given_up(proxy: Proxy, tmp_path: Path, monkeypatch):
    monkeypatch.setattr(answers, "MAX_SECONDS", 0.5)
    store = Store(tmp_path)
    proxy.answer = lambda path: STRANGE["drips"]()
    with pytest.raises(Exception, match="does not end"):
        store.client.search_experiments()


NOT_OF_MLFLOW = {
    "404": ("404 Not Found", TEXT, [b"404 page not found"]),
    "400": ("400 Bad Request", TEXT, [b"<html>bad</html>"]),
    "404 in JSON": ("404 Not Found", JSON, [b'{"message": "no Route matched"}']),
    "400 with a code of its own": ("400 Bad Request", JSON, [b'{"error_code": "E17"}']),
    "200 with a page": ("200 OK", [("Content-Type", "text/html")], [b"<html>back soon</html>"]),
    "302 to a login": ("302 Found", [("Location", "/login")], [b""]),
}


@pytest.mark.parametrize("kind", NOT_OF_MLFLOW)
def test_answers_of_a_proxy_lose_nothing(
    proxy: Proxy, tmp_path: Path, kind: str, caplog: pytest.LogCaptureFixture
):
    with opened(tmp_path) as run:
        proxy.answer = lambda path: NOT_OF_MLFLOW[kind] if path != "/login" else None
        for step in range(60):
            run.log_metrics({"loss": 1.0}, step)
    assert len(caplog.messages) == 1
    assert "cannot write to" in caplog.text
    proxy.answer = lambda path: None
    with opened(tmp_path, "sample"):
        pass
    assert logged_steps(tmp_path, run.run_id) == list(range(60))
    assert stored(tmp_path, run.run_id).info.status == "FINISHED"


@pytest.mark.parametrize("place", ["server", "file"])
def test_picture_that_cannot_be_stored_holds_back_no_points(
    request: pytest.FixtureRequest, place: str, caplog: pytest.LogCaptureFixture
):
    if place == "server":
        root, proxy = request.getfixturevalue("tmp_path"), request.getfixturevalue("proxy")
        proxy.answer = lambda path: NOT_OF_MLFLOW["404"] if "mlflow-artifacts" in path else None
    else:
        root = request.getfixturevalue("root")
        (root / "mlruns").write_text("no folder")
    with opened(root) as run:
        for step in range(6):
            run.log_image(Image.new("RGB", (8, 8)), "preview", step)
            run.log_metrics({"loss": 1.0}, step)
    assert logged_steps(root, run.run_id) == list(range(6))
    assert stored(root, run.run_id).info.status == "FINISHED"
    assert len(caplog.messages) == 1
    if place == "server":
        proxy.answer = lambda path: None
    else:
        (root / "mlruns").unlink()
    with opened(root, "sample"):
        pass
    images = Store(root).client.list_artifacts(run.run_id, "images")
    assert len([image for image in images if image.path.endswith(".png")]) == 6
    assert stored(root, run.run_id).info.status == "FINISHED"
    assert not list(root.glob("work/tracking/*/"))


@pytest.mark.parametrize("answers", [True, False])
def test_password_of_address_is_neither_said_nor_stored(
    proxy: Proxy, tmp_path: Path, answers: bool, monkeypatch, caplog: pytest.LogCaptureFixture
):
    named = proxy.url.replace("//", f"//bob:{PASSWORD}@")
    monkeypatch.setenv(
        "MLFLOW_TRACKING_URI", named if answers else f"http://bob:{PASSWORD}@[::1]:9"
    )
    trained(tmp_path, range(2))
    assert len(caplog.messages) == (0 if answers else 1)
    assert PASSWORD not in caplog.text
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert [path for path in written if PASSWORD.encode() in path.read_bytes()] == []
    state = json.loads((tmp_path / "work/train/key/epochs-1/metrics.state.json").read_bytes())
    assert state["store"] == (proxy.url if answers else None)
