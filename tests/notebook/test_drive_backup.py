"""A backup restores a training on a fresh machine."""

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
    "work/cache/raw-a.json": "{}",
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
    """The folder of a training."""
    folder = write(tmp_path / "work", CONTENT)
    with sqlite3.connect(folder / "mlflow.db") as database:
        database.execute("create table runs (name text)")
        database.execute("insert into runs values ('first')")
    database.close()
    return folder


@pytest.fixture
def drive(work: Path, tmp_path: Path) -> Path:
    """Its backup."""
    Backup(tmp_path / "drive", work).save()
    return tmp_path / "drive"


def test_fresh_machine_gets_everything_back(drive: Path, tmp_path: Path):
    Backup(drive, tmp_path / "fresh")
    assert read(tmp_path / "fresh") == CONTENT
    with sqlite3.connect(tmp_path / "fresh/mlflow.db") as database:
        assert database.execute("select name from runs").fetchall() == [("first",)]
    database.close()


def test_restore_does_not_replace_existing_units(work: Path, drive: Path):
    newer = write(work, {"work/train/key/step-2.safetensors": "newer"})
    (work / "work/train/key/step-1.safetensors").unlink()
    shutil.rmtree(work / "data/raw")
    Backup(drive, newer)
    assert "work/train/key/step-1.safetensors" not in read(work)
    assert read(work)["data/raw/a/train.parquet"] == "raw"


@pytest.mark.parametrize("name", ["train-1.tar", "step-1.safetensors"])
def test_interrupted_restore_loses_no_file(
    name: str, drive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def unplugged(source: Path, target: Path) -> None:
        if source.name == name:
            raise OSError("unplugged")
        copy(source, target)

    copy = shutil.copy2
    fresh = tmp_path / "fresh"
    with monkeypatch.context() as patch:
        patch.setattr(module.shutil, "copy2", unplugged)
        with pytest.raises(OSError, match="unplugged"):
            Backup(drive, fresh)
    Backup(drive, fresh).save()
    assert read(fresh) == read(drive) == CONTENT


def test_interrupted_restore_of_a_length_loses_no_file(
    work: Path, drive: Path, monkeypatch: pytest.MonkeyPatch
):
    """A length that the workspace lacks is restored as a whole: its checkpoint with its record."""
    names = [f"work/train/key/linear-3-9/{name}" for name in ("run.json", "step-5.safetensors")]
    files = write(drive, dict.fromkeys(names, "later"))

    def unplugged(source: Path, target: Path) -> None:
        if source.name == "run.json":
            raise OSError("unplugged")
        copy(source, target)

    copy = shutil.copy2
    with monkeypatch.context() as patch:
        patch.setattr(module.shutil, "copy2", unplugged)
        with pytest.raises(OSError, match="unplugged"):
            Backup(drive, work)
    Backup(drive, work).save()
    for folder in (files, work):
        assert [read(folder).get(name) for name in names] == ["later", "later"]


def test_restore_brings_newer_checkpoints(work: Path, drive: Path, tmp_path: Path):
    names = ["work/train/key/step-9.safetensors", "work/train/key/linear-3-9/step-5.safetensors"]
    later = write(drive, dict.fromkeys(names, "later"))
    Backup(drive, work).save()
    for folder in (later, work):
        assert [read(folder)[name] for name in names] == ["later", "later"]
        assert read(folder)["work/train/key/step-1.safetensors"] == "state"


def test_save_deletes_replaced_files_and_keeps_other_units(work: Path, drive: Path):
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


def test_save_skips_unfinished_files(work: Path, tmp_path: Path):
    write(work, {"work/train/.key.lock": "", "work/train/key/.step-3.safetensors.7.tmp": "half"})
    Backup(tmp_path / "drive", work).save()
    assert read(tmp_path / "drive") == CONTENT


def test_save_skips_unchanged_files(work: Path, drive: Path, monkeypatch: pytest.MonkeyPatch):
    copied = []
    copy = shutil.copy2
    monkeypatch.setattr(module.shutil, "copy2", lambda a, b: (copied.append(a.name), copy(a, b)))
    backup = Backup(drive, work)
    os.utime(work / "metrics/train.json", (0, 0))
    backup.save()
    assert copied == ["train.json", ".mlflow.db.part"]


def test_callback_saves_periodically(work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    backup = Backup(tmp_path / "drive", work)
    backup.log_metrics({"loss": 1.0}, 1)
    assert not (tmp_path / "drive").exists()
    monkeypatch.setattr(module, "SAVE_EVERY", -1.0)
    backup.log_metrics({"loss": 1.0}, 2)
    assert read(tmp_path / "drive") == CONTENT


def test_failed_save_is_not_repeated_at_every_step(
    work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "drive").write_text("no folder")
    backup = Backup(tmp_path / "drive", work)
    start = module.time.monotonic()
    clock = iter([start + 700, start + 701, start + 800])
    monkeypatch.setattr(module.time, "monotonic", lambda: next(clock))
    with pytest.raises(OSError, match="drive"):
        backup.log_metrics({"loss": 1.0}, 1)
    backup.log_metrics({"loss": 1.0}, 2)


def test_restore_without_local_checkpoints_brings_all(work: Path, drive: Path):
    """Also if the training's folder exists already, such as after a start that was interrupted."""
    (work / "work/train/key/step-1.safetensors").unlink()
    Backup(drive, work).save()
    for folder in (work, drive):
        assert read(folder)["work/train/key/step-1.safetensors"] == "state"


def test_interrupted_save_leaves_no_half_file(
    work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """A file of the backup is the old or the new one, never a part of it."""

    def cut(source: Path, target: Path) -> None:
        Path(target).write_text("half")
        raise OSError("unplugged")

    backup = Backup(tmp_path / "drive", work)
    with monkeypatch.context() as patch:
        patch.setattr(module.shutil, "copy2", cut)
        with pytest.raises(OSError, match="unplugged"):
            backup.save()
    Backup(tmp_path / "drive", tmp_path / "fresh")
    assert read(tmp_path / "fresh") == {}
    backup.save()
    assert read(tmp_path / "drive") == CONTENT
