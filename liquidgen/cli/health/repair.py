"""`liquidgen repair`: clear away half-written files of a killed DVC, and damaged outputs.

DVC writes two files in place: dvc.lock, and .dvc/tmp/rwlock, which lists the running DVC processes
and the paths that they read and write. DVC skips entries of dead processes. It stops at a truncated
file, and at an entry whose process ID now belongs to another program, as happens after a restart of
a container.
"""

import os
import sys
from collections.abc import Iterator
from enum import Enum, auto
from pathlib import Path

import psutil
from filelock import FileLock, Timeout
from pydantic import BaseModel, ConfigDict, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from liquidgen.cli.health.damage import set_aside_damage
from liquidgen.config.paths import project_root
from liquidgen.utils.errors import UserError
from liquidgen.utils.text import one_line

DVC_LOCK = Path("dvc.lock")
TMP = Path(".dvc/tmp")
RWLOCK = TMP / "rwlock"
# DVC holds the first (by flock, as FileLock) while it writes dvc.lock, the second while rwlock
GUARDS = (TMP / "lock", TMP / "rwlock.lock")
GUARD_TIMEOUT = 3  # seconds, as DVC's own


class _Entry(BaseModel):
    """A DVC process in rwlock."""

    model_config = ConfigDict(strict=True, extra="forbid")
    pid: int
    cmd: str


class _RWLock(BaseModel):
    """Content of rwlock: by path the process that writes it, and those that read it."""

    model_config = ConfigDict(strict=True, extra="forbid")
    write: dict[str, _Entry] = {}
    read: dict[str, list[_Entry]] = {}


class _Output(BaseModel):
    """An output in dvc.lock."""

    path: str


class _Stage(BaseModel):
    """A stage in dvc.lock, as far as a truncated file can lack a part of it."""

    cmd: str | list[str]
    deps: list[dict] = []
    params: dict[str, dict] = {}
    outs: list[_Output] = []


class _DVCLock(BaseModel):
    """Content of dvc.lock."""

    stages: dict[str, _Stage] = {}


class ProcessState(Enum):
    """State of the process that an entry's ID belongs to now."""

    RUNNING = auto()  # the DVC process that wrote it
    REUSED = auto()  # another program; DVC stops there
    DEAD = auto()  # no process; DVC skips it


def run() -> None:
    """Clear away half-written files of a killed DVC, and damaged outputs."""
    repair(project_root())


def repair(root: Path) -> None:
    """Clear away what stops DVC, and what it would not notice.

    A truncated dvc.lock is set aside, and an rwlock that names no running DVC process deleted:
    outputs are not lost, DVC finds them by its run cache. Damaged outputs are set aside, and
    damaged objects in DVC's cache deleted: `dvc repro` makes them again. A running DVC process is
    left alone.

    Args:
        root: Folder of the checkout.

    Raises:
        UserError: `root` is not a DVC repository, or a stage writes its output.
    """
    if not (root / ".dvc").is_dir():
        raise UserError(
            f"{root}: not a DVC repository; run from a checkout, or copy a damaged folder again"
        )
    (root / TMP).mkdir(exist_ok=True)
    repo_guard, rwlock_guard = (FileLock(root / guard, timeout=GUARD_TIMEOUT) for guard in GUARDS)
    try:
        with repo_guard, rwlock_guard:
            done = [*_set_aside_truncated_lock(root), *_delete_stale_rwlock(root / RWLOCK)]
            for line in done:
                _report(line)
            if ProcessState.RUNNING in read_rwlock(root / RWLOCK).values():
                _report(f"DVC is running in {root}, its outputs were not checked")
                return
            for line in set_aside_damage(root):
                _report(line)
                done.append(line)
    except Timeout:
        _report(f"DVC is running in {root}, nothing was changed")
        return
    if not done:
        _report("repair: nothing to do, all outputs are as recorded")


def _set_aside_truncated_lock(root: Path) -> Iterator[str]:
    path = root / DVC_LOCK
    if not is_whole_lock(path):
        aside = root / TMP / f"{DVC_LOCK}.damaged"
        os.replace(path, aside)
        yield f"{path} was damaged and is now {aside}; `dvc repro` writes it again"


def _delete_stale_rwlock(path: Path) -> Iterator[str]:
    try:
        states = read_rwlock(path).values()
        is_stale = states and ProcessState.RUNNING not in states
    except ValueError:
        is_stale = True
    if is_stale:
        path.unlink()
        yield f"{path} named no running DVC process and was deleted"


def is_whole_lock(path: Path) -> bool:
    """Return whether a dvc.lock is complete; it need not exist.

    DVC ends the file with a newline, so that any other end is that of a truncated one. One that was
    truncated at the end of a line is no YAML, or lacks a value.
    """
    return not path.exists() or _read_lock(path) is not None


def recorded_outputs(root: Path) -> list[str]:
    """Return the outputs in dvc.lock, relative to `root`; none where it is missing or damaged."""
    lock = _read_lock(root / DVC_LOCK)
    return [output.path for stage in lock.stages.values() for output in stage.outs] if lock else []


def _read_lock(path: Path) -> _DVCLock | None:
    """Read a dvc.lock; None if it is missing or damaged."""
    try:
        text = path.read_text("utf-8")
        lock = _DVCLock.model_validate(YAML(typ="safe").load(text))
    except (FileNotFoundError, UnicodeDecodeError, YAMLError, ValidationError):
        return None
    return lock if text.endswith("\n") else None


def read_rwlock(path: Path) -> dict[int, ProcessState]:
    """Read the process IDs in DVC's rwlock, which need not exist.

    Raises:
        ValueError: DVC could not read the file either.
    """
    try:
        content = _RWLock.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return {}
    readers = [reader for readers in content.read.values() for reader in readers]
    return {entry.pid: _state(entry) for entry in [*content.write.values(), *readers]}


def _state(entry: _Entry) -> ProcessState:
    arguments = entry.cmd.partition(" ")[2]  # the program before them is `dvc` or `python -m dvc`
    try:
        command = " ".join(psutil.Process(entry.pid).cmdline())
    except psutil.NoSuchProcess:
        return ProcessState.DEAD
    except psutil.AccessDenied:  # another user's process, which may be a DVC
        return ProcessState.RUNNING
    return ProcessState.RUNNING if command.endswith(arguments) else ProcessState.REUSED


def _report(message: str) -> None:
    print(one_line(message), file=sys.stderr)
