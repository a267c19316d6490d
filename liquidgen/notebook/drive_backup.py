"""A second copy of a training's folder, for machines that are taken away, such as Colab's."""

import os
import shutil
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from PIL.Image import Image

# datasets, latents, models, trainings, runs: each is there as a whole, or not
UNITS = ("data/*/*", "metrics/*", "work/*/*", "mlruns/*/*")
DATABASE = "mlflow.db"
TRAININGS, CHECKPOINTS = Path("work/train"), "step-*"  # whose names have the order of the steps
EVERY = 600.0  # seconds
CLOCKS_DIFFER = 2.0  # seconds: network drives round times


class Backup:
    """Keeps a copy of a training's folder in another place; a callback of `train`.

    When it is made it brings back what the workspace lacks: whole units, and of a training that is
    on both sides the later checkpoints. Network drives lock and sync unlike disks, so that nothing
    works on the copy itself.
    """

    def __init__(self, folder: str | Path, workspace: str | Path = ".") -> None:
        self._folder, self._workspace = Path(folder), Path(workspace)
        for unit in [*_units(self._folder), Path(DATABASE)]:
            if not (self._workspace / unit).exists():
                _restore(self._folder / unit, self._workspace / unit)
            elif unit.parent == TRAININGS:  # began before the backup was there
                _bring_later(self._folder / unit, self._workspace / unit)
        self._saved_at = time.monotonic()

    def save(self) -> None:
        """Copy what is new; what only the copy has is left there."""
        try:
            for unit in _units(self._workspace):
                _mirror(self._workspace / unit, self._folder / unit)
            if (self._workspace / DATABASE).exists():
                self._save_database()
        finally:  # a drive that fails is not tried again at every step
            self._saved_at = time.monotonic()

    def log_metrics(self, metrics: dict[str, float], step: int) -> None:
        """Save every ten minutes of a training."""
        if time.monotonic() - self._saved_at > EVERY:
            self.save()

    def log_image(self, image: Image, key: str, step: int) -> None:
        """Nothing to do: pictures are in the workspace already."""

    def _save_database(self) -> None:
        """By SQLite itself, as others may be writing."""
        part = self._workspace / f".{DATABASE}.part"
        with (
            closing(sqlite3.connect(self._workspace / DATABASE)) as source,
            closing(sqlite3.connect(part)) as copy,
        ):
            source.backup(copy)
        _copy(part, self._folder / DATABASE)
        part.unlink()


def _units(folder: Path) -> list[Path]:
    found = (path for pattern in UNITS for path in folder.glob(pattern))
    return sorted(path.relative_to(folder) for path in found if not path.name.startswith("."))


def _restore(source: Path, target: Path) -> None:
    """Bring back a unit that is not there: under a hidden name until it is whole.

    Half of it under its own name would count as the workspace's, and the next save would delete the
    other half from the copy.
    """
    part = target.with_name(f".{target.name}.part")
    _mirror(source, part)
    if part.exists():
        os.replace(part, target)


def _bring_later(source: Path, target: Path) -> None:
    """Bring the checkpoints of a training beyond its last one here, which the next save keeps."""
    last = max((path.name for path in target.glob(CHECKPOINTS)), default="")
    for path in source.glob(CHECKPOINTS):
        if path.name > last:
            _copy(path, target / path.name)


def _mirror(source: Path, target: Path) -> None:
    """Make a file or folder equal another, whole files only."""
    wanted = set()
    for path in _files(source):
        twin = target / path.relative_to(source)
        wanted.add(twin)
        if not _same(path, twin):
            _copy(path, twin)
    for path in _files(target):
        if path not in wanted:  # such as a checkpoint that newer ones have replaced
            path.unlink()


def _files(part: Path) -> Iterator[Path]:
    """All finished files; locks, and what is being written, are hidden."""
    found = [part] if part.is_file() else sorted(part.rglob("*"))
    yield from (path for path in found if path.is_file() and not path.name.startswith("."))


def _same(path: Path, twin: Path) -> bool:
    if not twin.exists():
        return False
    ours, theirs = path.stat(), twin.stat()
    return ours.st_size == theirs.st_size and abs(ours.st_mtime - theirs.st_mtime) < CLOCKS_DIFFER


def _copy(path: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f".{target.name}.part")
    shutil.copy2(path, part)
    os.replace(part, target)
