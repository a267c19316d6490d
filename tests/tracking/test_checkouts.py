"""Checkouts that were copied or moved, share a database, or have odd paths and names."""

import os
import shutil
import sqlite3
import time
from pathlib import Path

import pytest
from helpers.tracking import logged_steps, opened, rows, stored, trained
from PIL import Image

from liquidgen.cli.health import checks
from liquidgen.config.paths import project_root
from liquidgen.tracking import open_run
from liquidgen.tracking.own_database import artifact_location, foreign_locations
from liquidgen.tracking.rows import EXTERNAL_ID_TAG
from liquidgen.tracking.store import Store

pytestmark = pytest.mark.fault("copied, moved and oddly named checkouts")


def log_image(root: Path, **arguments: object) -> str:
    """Record a training with one image; returns its id."""
    with opened(root, **arguments) as run:
        run.log_image(Image.new("RGB", (8, 8)), "preview", 0)
    return run.run_id


def images(root: Path) -> list[Path]:
    return sorted(root.glob("mlruns/**/*.png"))


def killed(root: Path) -> str:
    """A training whose process died after one image and one loss."""
    journal = root / "work/train/key/epochs-1/metrics.jsonl"
    with opened(root, journal=journal) as run:
        run.log_image(Image.new("RGB", (8, 8)), "preview", 0)
        run.log_metrics({"loss": 1.0}, 0)
    state = journal.with_suffix(".state.json")
    state.write_text(state.read_text().replace('"ended": true', '"ended": false'))
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join(lines[:-1]))
    client = Store(root).client
    client.update_run(run.run_id, status="RUNNING")
    return run.run_id


@pytest.mark.parametrize("is_move", [True, False])
def test_copied_or_moved_checkout_has_its_own_images(
    root: Path, tmp_path_factory, is_move: bool, caplog: pytest.LogCaptureFixture
):
    run = killed(root)
    before = {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}
    new = tmp_path_factory.mktemp("new") / "place"
    (shutil.move if is_move else shutil.copytree)(root, new)
    found = checks.tracking(new)
    assert found.level == "note"
    assert "1 runs look for their images in another checkout" in found.found
    log_image(new)
    (line,) = caplog.messages
    assert str(new / "mlruns") in line
    assert len(images(new)) == 2
    assert stored(new, run).info.status == "KILLED"
    artifacts = Store(new).client.list_artifacts(run, "images")
    assert any(artifact.path.endswith(".png") for artifact in artifacts)
    if is_move:
        assert not root.exists()
    else:
        assert {path: path.read_bytes() for path in before} == before
        assert {path for path in root.rglob("*") if path.is_file()} == set(before)
    assert checks.tracking(new).level == "ok"
    caplog.clear()
    log_image(new)
    assert caplog.messages == []


def test_folder_of_artifacts_chosen_by_the_user_stays(root: Path, tmp_path_factory):
    """It is on another disk, and there."""
    log_image(root)
    chosen = tmp_path_factory.mktemp("disk") / "mlruns/own"
    chosen.mkdir(parents=True)
    with sqlite3.connect(root / "mlflow.db") as database:
        database.execute("UPDATE experiments SET artifact_location = ?", (chosen.as_uri(),))
    assert not any(foreign_locations(root / "mlflow.db", root).values())
    chosen.rmdir()
    assert foreign_locations(root / "mlflow.db", root)["experiments"]


def test_checkouts_on_one_database_keep_apart(
    database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    shutil.copy(database, tmp_path / "shared.db")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/shared.db")
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    trained(first, range(2))
    log_image(first)
    shutil.copytree(first, second)  # with the state of the training
    log_image(second)
    trained(second, range(2, 4))
    assert len(images(first)) == 1
    assert len(images(second)) == 2
    names = {run.info.run_name for run in rows(second, f"test ({second})")}
    assert names == {"train", "train (2)"}
    (training,) = (
        run for run in rows(second, f"test ({second})") if "train/loss" in run.data.metrics
    )
    assert logged_steps(second, training.info.run_id) == list(range(4))
    assert len(rows(first)) == 2
    assert sum("train/loss" in run.data.metrics for run in rows(first)) == 1


@pytest.mark.parametrize("named", ["sqlite:///runs.db", "shared"])
def test_first_run_in_workspace_of_dvc_records_in_checkout(
    database: Path, tmp_path: Path, named: str, monkeypatch: pytest.MonkeyPatch
):
    root = tmp_path / "checkout"
    workspace = root / ".dvc/tmp/exps/tmp1234"
    workspace.mkdir(parents=True)
    path = root / "runs.db" if named != "shared" else tmp_path / "shared.db"
    shutil.copy(database, path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{path}" if named == "shared" else named)
    monkeypatch.chdir(workspace)
    run = log_image(project_root())
    assert not list(workspace.iterdir())
    assert len(images(root)) == 1
    monkeypatch.chdir(root)
    assert stored(root, run).info.artifact_uri.startswith((root / "mlruns").as_uri())


def test_checkout_with_odd_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    parent = tmp_path / "parent"
    root = parent / "what?now my%20pro#ject 12:30 'a\"b é"
    root.mkdir(parents=True)
    monkeypatch.chdir(root)
    run = log_image(root)
    with opened(root, "sample", parent=run) as child:
        child.log_to_parent({"fd": 1.0})
    assert caplog.messages == []
    assert {run.info.status for run in rows(root)} == {"FINISHED"}
    assert len(images(root)) == 1
    assert [path.name for path in parent.iterdir()] == [root.name]
    assert (root / "mlflow.db").is_file()


@pytest.mark.parametrize("name", ["../../esc", "/Shared/x", "..", "/", "a" * 400, "naïve €"])
def test_any_experiment_stays_in_checkout(root: Path, name: str):
    before = set(root.parent.rglob("*"))
    with open_run(root, name, "train", name="train", params={}) as run:
        run.log_image(Image.new("RGB", (8, 8)), "preview", 0)
    assert [run.info.status for run in rows(root, name)] == ["FINISHED"]
    assert len(list((root / "mlruns").glob("*/*/artifacts/images/*.png"))) == 1
    new = set(root.parent.rglob("*")) - before
    assert all(path.is_relative_to(root) for path in new)


def test_location_of_plain_experiment_is_its_name(tmp_path: Path):
    assert artifact_location(tmp_path, "my-data_2.1") == (tmp_path / "mlruns/my-data_2.1").as_uri()


@pytest.mark.parametrize("kind", ["folder", "garbage", "locked"])
def test_database_that_cannot_be_used_costs_seconds(
    root: Path, kind: str, caplog: pytest.LogCaptureFixture
):
    path, aside = root / "mlflow.db", root / "aside.db"
    blocker = None
    if kind == "locked":
        blocker = sqlite3.connect(path, isolation_level=None)
        blocker.execute("BEGIN EXCLUSIVE")
    else:
        os.replace(path, aside)
        path.mkdir() if kind == "folder" else path.write_bytes(b"no database at all " * 100)
    started = time.monotonic()
    with opened(root) as run:
        begun = time.monotonic()
        run.log_metrics({"loss": 1.0}, 0)
        ending = time.monotonic()
    assert begun - started < 5
    assert time.monotonic() - ending < 5
    assert len(caplog.messages) == 1
    if blocker:
        blocker.close()
    else:
        path.rmdir() if kind == "folder" else path.unlink()
        os.replace(aside, path)
    with opened(root, "sample"):
        pass
    (found,) = (r for r in rows(root) if r.data.tags[EXTERNAL_ID_TAG] == run.run_id)
    assert logged_steps(root, found.info.run_id) == [0]
