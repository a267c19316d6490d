"""Atomic writes of files and folders, locks, digests and JSON."""

import errno
import hashlib
import io
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, BinaryIO, TypeVar

from filelock import FileLock, Timeout
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from liquidgen.utils.errors import UserError
from liquidgen.utils.text import shown

Content = TypeVar("Content", bound=BaseModel)
DISK_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}  # the last one is of a limit to file sizes
# tables of images beside an output, for the user: no stage reads them. Columns: path, reason
SKIPPED = "skipped.csv"
NOTED = "noted.csv"  # images that were used, but should be looked at
# of damage: DVC's cache may hold the same bytes, and would bring them back
REMEDY = "run `liquidgen repair`, then `dvc repro`"


def _plain_name(name: str) -> str:
    if name in ("", ".", "..") or not name.isprintable() or re.search(r"[/\\:]", name):
        raise ValueError("must be the plain name of a file beside this one")
    return name


def distinct(names: tuple[str, ...]) -> tuple[str, ...]:
    """Check that names, as of classes, are neither none nor doubled; for pydantic.

    Raises:
        ValueError: They are.
    """
    if not names:
        raise ValueError("must hold at least one name")
    if len(set(names)) < len(names):
        doubled = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{shown(doubled)} is there more than once")
    return names


def check_classes(
    classes: tuple[str, ...] | None, per_class: Mapping[str, Mapping[str, int] | None]
) -> None:
    """Check that the counts per class of all splits name the classes of the whole; for pydantic.

    Args:
        classes: Names of the classes; None: unlabeled data.
        per_class: Counts per class by split; None in unlabeled data.

    Raises:
        ValueError: They name others.
    """
    expected = None if classes is None else set(classes)
    for name, counts in per_class.items():
        if (None if counts is None else set(counts)) != expected:
            raise ValueError(f"{shown(name)} has other classes than the whole")


Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Count = Annotated[int, Field(ge=0)]
ClassNames = Annotated[tuple[str, ...], AfterValidator(distinct)]


class StoredFile(BaseModel):
    """Name, size and digest of a file, as manifests record them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Annotated[str, AfterValidator(_plain_name)]
    count: Count  # of samples or images
    bytes: Count
    sha256: Digest

    @classmethod
    def of(cls, path: Path, count: int) -> "StoredFile":
        """Record an existing file."""
        return cls(name=path.name, count=count, bytes=path.stat().st_size, sha256=file_sha256(path))

    def verify(self, folder: Path) -> None:
        """Raise UserError for a file that is missing, truncated or altered."""
        path = folder / self.name
        self.verify_size(folder)
        if file_sha256(path) != self.sha256:
            raise UserError(f"{path}: damaged, its sha256 is not the recorded one; {REMEDY}")

    def verify_size(self, folder: Path) -> None:
        """Raise UserError for a file that is missing or of another size."""
        path = folder / self.name
        if not path.is_file():
            raise UserError(f"{path}: missing; run `dvc repro`")
        if (size := path.stat().st_size) != self.bytes:
            raise UserError(f"{path}: has {size} bytes instead of {self.bytes}; {REMEDY}")


@contextmanager
def atomic(path: Path) -> Iterator[BinaryIO]:
    """Open a binary file for writing; it gets its name once it is complete and on the disk."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    file = _Counted(io.FileIO(temporary, "w"))
    try:
        with _explained(path, lambda: f"{file.asked}"), file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        _sync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def locked(folder: Path, doing: str, patience: float = 0) -> Iterator[None]:
    """Hold a lock on a folder, as a file beside it that is removed at the end.

    Args:
        folder: The folder, which need not exist.
        doing: What another process that holds the lock does, for the message.
        patience: Seconds to wait for the lock.

    Raises:
        UserError: Another process holds the lock.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder.with_name(f".{folder.name}.lock"), timeout=patience)
    try:
        lock.acquire()
    except Timeout:
        raise UserError(f"{folder}: another process {doing}; wait for it, or end it") from None
    try:
        yield
    finally:
        # removed while it is held: filelock takes no lock on a file that has lost its name
        Path(lock.lock_file).unlink(missing_ok=True)
        lock.release()


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """Yield a temporary folder, which replaces `folder` unless an exception is raised.

    All files in it are on the disk before it gets its name.

    Raises:
        UserError: Another process fills the same folder, or it is a link.
    """
    if folder.is_symlink():
        raise UserError(
            f"{folder}: is a link, but a stage replaces this folder; remove the link (what it "
            "leads to stays), then run it again"
        )
    temporary = folder.with_name(f".{folder.name}.tmp")
    retired = folder.with_name(f".{folder.name}.old")
    with locked(folder, "fills this folder"):
        _restore(retired, folder)  # after a kill between the two renames below
        _remove(temporary, retired)
        temporary.mkdir()
        try:
            with _explained(folder, lambda: f"more than {_bytes_in(temporary)}"):
                yield temporary
            for path in (*temporary.rglob("*"), temporary):
                _sync(path)
            if folder.exists():
                os.replace(folder, retired)
            os.replace(temporary, folder)
            _sync(folder.parent)
        finally:
            _restore(retired, folder)
            _remove(temporary, retired)


def canonical_json(value: Any) -> bytes:
    """Encode a value as JSON; equal values, with keys in equal order, have equal bytes."""
    return (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode()


def read_json(path: Path, kind: type[Content], remedy: str = REMEDY) -> Content:
    """Read and validate a JSON file.

    Args:
        path: The file.
        kind: Model of its content.
        remedy: What to do about a damaged file, for the message.

    Raises:
        UserError: It is missing or does not fit the model.
    """
    try:
        return kind.model_validate_json(path.read_bytes())
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        raise UserError(f"{path}: missing; run `dvc repro`") from None
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "content"
        rule = first["msg"].removeprefix("Value error, ")
        raise UserError(f"{path}: {place}: {rule}; {remedy}") from None


def write_json(path: Path, value: Any) -> None:
    """Write a value as JSON, atomically."""
    with atomic(path) as file:
        file.write(canonical_json(value))


def sha256(data: bytes) -> str:
    """Return the hexadecimal SHA-256 digest of bytes."""
    return hashlib.sha256(data).hexdigest()


def file_sha256(path: Path) -> str:
    """Return the hexadecimal SHA-256 digest of a file's content."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class _Counted(io.BufferedWriter):
    """Counts the bytes that it was asked to write."""

    asked = 0

    def write(self, data: Any) -> int:  # typing names buffers since Python 3.12
        self.asked += memoryview(data).nbytes
        return super().write(data)


@contextmanager
def _explained(path: Path, needed: Callable[[], str]) -> Iterator[None]:
    """Add to the error of a full disk, which names no file, the path and the bytes needed."""
    try:
        yield
    except OSError as error:
        if error.errno in DISK_FULL and error.filename is None:
            error.filename = str(path)
            error.add_note(f"it needs {needed()} bytes, {shutil.disk_usage(path.parent).free} free")
        raise


def _bytes_in(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*"))


def _sync(path: Path) -> None:
    """Flush a file's content, or the names in a folder, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _restore(retired: Path, folder: Path) -> None:
    """Rename an earlier folder back if no new one has its name."""
    if retired.exists() and not folder.exists():
        os.replace(retired, folder)


def _remove(*folders: Path) -> None:
    for folder in folders:
        if folder.is_symlink():  # made by someone else: what it leads to is not ours
            folder.unlink()
        elif folder.exists():
            shutil.rmtree(folder)
