"""Backup of the working folder on a network drive, for machines that can be taken away (Colab)."""

import os
import shutil
import sqlite3
import time
from contextlib import closing
from pathlib import Path

from PIL.Image import Image

# datasets, latents, models, trainings, runs: each is restored as a whole, or not at all
UNITS = ("data/*/*", "metrics/*", "work/*/*", "mlruns/*/*")
TRAININGS = Path("work/train")
CHECKPOINTS = "step-*"  # their names sort by step
DATABASE = "mlflow.db"
SAVE_EVERY = 600.0  # seconds
MTIME_TOLERANCE = 2.0  # seconds: network drives round times


class Backup:
    """Callback of `train` that copies the working folder to a drive, and restores it from there.

    Nothing works on the drive itself: network drives lock and sync files unlike disks.
    """

    def __init__(self, folder: str | Path, workspace: str | Path = ".") -> None:
        """Restore what the workspace lacks: whole units, and newer checkpoints of its trainings.

        Args:
            folder: The backup; created by the first save.
            workspace: The folder in which `train` runs.
        """
        self._folder = Path(folder)
        self._workspace = Path(workspace)
        for unit in _find(self._folder, *UNITS, DATABASE):
            source = self._folder / unit
            target = self._workspace / unit
            if not target.exists():
                _restore(source, target)
            elif unit.parent == TRAININGS:  # the next save must not delete them from the backup
                _restore_newer(source, target)
                for folder in _find(source, "*/"):  # each of one length of the training
                    if (target / folder).exists():
                        _restore_newer(source / folder, target / folder)
                    else:
                        _restore(source / folder, target / folder)
        self._saved_at = time.monotonic()

    def save(self) -> None:
        """Make each unit of the backup equal to the workspace's; units that only it has stay."""
        try:
            for unit in _find(self._workspace, *UNITS):
                _mirror(self._workspace / unit, self._folder / unit)
            if (self._workspace / DATABASE).exists():
                self._save_database()
        finally:  # do not try a failing drive again at every step
            self._saved_at = time.monotonic()

    def log_metrics(self, metrics: dict[str, float], step: int) -> None:
        """Save every ten minutes of a training."""
        if time.monotonic() - self._saved_at > SAVE_EVERY:
            self.save()

    def log_image(self, image: Image, key: str, step: int) -> None:
        """Do nothing: the image is saved with the workspace."""

    def _save_database(self) -> None:
        """Copy the database through SQLite, as others may be writing to it."""
        database = self._workspace / DATABASE
        part = _hidden(database)
        with closing(sqlite3.connect(database)) as source, closing(sqlite3.connect(part)) as copy:
            source.backup(copy)
        _copy(part, self._folder / DATABASE)
        part.unlink()


def _restore(source: Path, target: Path) -> None:
    """Copy a file or folder that the target lacks, as a whole or not at all."""
    _mirror(source, _hidden(target))
    os.replace(_hidden(target), target)


def _restore_newer(source: Path, target: Path) -> None:
    """Copy the checkpoints that are newer than those of the target."""
    newest = max((path.name for path in target.glob(CHECKPOINTS)), default="")
    for path in source.glob(CHECKPOINTS):
        if path.name > newest:
            _copy(path, target / path.name)


def _find(folder: Path, *patterns: str) -> list[Path]:
    """Return relative paths of what matches; hidden files are locks, or incomplete."""
    found = [path for pattern in patterns for path in folder.glob(pattern)]
    return sorted(path.relative_to(folder) for path in found if not path.name.startswith("."))


def _hidden(path: Path) -> Path:
    """Return the name of a file or folder until it is complete."""
    return path.with_name(f".{path.name}.part")


def _mirror(source: Path, target: Path) -> None:
    """Make a file or folder equal to another."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_file():
        _update(source, target)
        return
    hidden = shutil.ignore_patterns(".*")
    shutil.copytree(source, target, ignore=hidden, copy_function=_update, dirs_exist_ok=True)
    for path in target.rglob("*"):  # such as checkpoints that newer ones have replaced
        if path.is_file() and not (source / path.relative_to(target)).exists():
            path.unlink()


def _update(source: str | Path, target: str | Path) -> None:
    """Copy a file unless size and time are equal."""
    if os.path.exists(target):
        new = os.stat(source)
        old = os.stat(target)
        is_same_time = abs(new.st_mtime - old.st_mtime) < MTIME_TOLERANCE
        if new.st_size == old.st_size and is_same_time:
            return
    _copy(Path(source), Path(target))


def _copy(source: Path, target: Path) -> None:
    shutil.copy2(source, _hidden(target))
    os.replace(_hidden(target), target)
