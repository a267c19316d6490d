"""A backup brings a training back on a fresh machine, and mirrors whole files only."""

import os
import shutil
import sqlite3
from pathlib import Path

import pytest

from liquidgen.notebook import drive_backup as module
from liquidgen.notebook.drive_backup import Backup

CONTENT = {
    "data/raw/a/train.parquet": "raw",
    "data/latents/a/train-0.tar": "latents",
    "data/latents/a/train-1.tar": "more",
    "work/train/key/metrics.jsonl": "points",
    "work/train/key/step-1.safetensors": "state",
    "work/kept/raw-a.json": "{}",
    "metrics/train.json": "{}",
    "mlruns/liquidgen/run/artifacts/grid.png": "picture",
}


def write(folder: Path, content: dict[str, str]) -> Path:
    for name, text in content.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def read(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file() and path.suffix != ".db")
    return {str(path.relative_to(folder)): path.read_text() for path in files}


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """A folder in which somebody trained."""
    folder = write(tmp_path / "work", CONTENT)
    with sqlite3.connect(folder / "mlflow.db") as database:
        database.execute("create table runs (name text)")
        database.execute("insert into runs values ('first')")
    database.close()
    return folder


@pytest.fixture
def drive(work: Path, tmp_path: Path) -> Path:
    """The copy of it."""
    Backup(tmp_path / "drive", work).save()
    return tmp_path / "drive"


def test_a_fresh_machine_gets_everything_back(drive: Path, tmp_path: Path):
    Backup(drive, tmp_path / "fresh")
    assert read(tmp_path / "fresh") == CONTENT
    with sqlite3.connect(tmp_path / "fresh/mlflow.db") as database:
        assert database.execute("select name from runs").fetchall() == [("first",)]
    database.close()


def test_what_the_machine_has_is_not_replaced(work: Path, drive: Path):
    newer = write(work, {"work/train/key/step-2.safetensors": "newer"})
    (work / "work/train/key/step-1.safetensors").unlink()
    shutil.rmtree(work / "data/raw")
    Backup(drive, newer)
    assert "work/train/key/step-1.safetensors" not in read(work)
    assert read(work)["data/raw/a/train.parquet"] == "raw"


@pytest.mark.parametrize("name", ["train-1.tar", "step-1.safetensors"])
def test_a_restore_that_breaks_off_costs_neither_side_a_file(
    name: str, drive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def unplugged(source: Path, target: Path) -> None:
        if source.name == name:
            raise OSError("unplugged")
        copy(source, target)

    copy, fresh = module._copy, tmp_path / "fresh"
    with monkeypatch.context() as patch:
        patch.setattr(module, "_copy", unplugged)
        with pytest.raises(OSError, match="unplugged"):
            Backup(drive, fresh)
    Backup(drive, fresh).save()
    assert read(fresh) == read(drive) == CONTENT


def test_later_checkpoints_of_the_copy_come_to_a_training_that_began_without_it(
    work: Path, drive: Path, tmp_path: Path
):
    later = write(drive, {"work/train/key/step-9.safetensors": "later"})
    Backup(drive, work).save()
    for folder in (later, work):
        assert read(folder)["work/train/key/step-9.safetensors"] == "later"
        assert read(folder)["work/train/key/step-1.safetensors"] == "state"


def test_replaced_files_leave_the_copy_and_other_trainings_stay_in_it(work: Path, drive: Path):
    write(work, {"work/train/key/step-2.safetensors": "newer"})
    (work / "work/train/key/step-1.safetensors").unlink()
    shutil.rmtree(work / "data/raw/a")
    Backup(drive, work)
    shutil.rmtree(work / "data/raw/a")  # deleted by the user after the copy was made
    (work / "data/latents/a/train-1.tar").unlink()
    Backup.save(Backup(drive, work))
    found = read(drive)
    assert found["work/train/key/step-2.safetensors"] == "newer"
    assert "work/train/key/step-1.safetensors" not in found
    assert "data/latents/a/train-1.tar" not in found
    assert found["data/raw/a/train.parquet"] == "raw"


def test_files_that_are_being_written_are_not_copied(work: Path, tmp_path: Path):
    write(work, {"work/train/.key.lock": "", "work/train/key/.step-3.safetensors.7.tmp": "half"})
    Backup(tmp_path / "drive", work).save()
    assert read(tmp_path / "drive") == CONTENT


def test_unchanged_files_are_not_copied_again(
    work: Path, drive: Path, monkeypatch: pytest.MonkeyPatch
):
    copied = []
    copy = module._copy
    monkeypatch.setattr(module, "_copy", lambda a, b: (copied.append(a.name), copy(a, b)))
    backup = Backup(drive, work)
    os.utime(work / "metrics/train.json", (0, 0))
    backup.save()
    assert copied == ["train.json", ".mlflow.db.part"]


def test_it_saves_now_and_then_during_a_training(
    work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    backup = Backup(tmp_path / "drive", work)
    backup.log_metrics({"loss": 1.0}, 1)
    assert not (tmp_path / "drive").exists()
    monkeypatch.setattr(module, "EVERY", -1.0)
    backup.log_metrics({"loss": 1.0}, 2)
    assert read(tmp_path / "drive") == CONTENT


def test_a_save_that_failed_is_not_tried_again_at_every_point(
    work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "drive").write_text("no folder")
    backup, start = Backup(tmp_path / "drive", work), module.time.monotonic()
    clock = iter([start + 700, start + 701, start + 800])
    monkeypatch.setattr(module.time, "monotonic", lambda: next(clock))
    with pytest.raises(OSError, match="drive"):
        backup.log_metrics({"loss": 1.0}, 1)
    backup.log_metrics({"loss": 1.0}, 2)
