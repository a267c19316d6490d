"""Whole files or nothing: atomic writes, replaced folders, digests, JSON."""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from filelock import FileLock, Timeout
from pydantic import BaseModel, ConfigDict, ValidationError

from liquidgen.utils.errors import UserError

Content = TypeVar("Content", bound=BaseModel)


class StoredFile(BaseModel):
    """A file as a list of contents records it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    count: int  # of samples or images
    bytes: int
    sha256: str

    @classmethod
    def of(cls, path: Path, count: int) -> "StoredFile":
        """Record a file that is there."""
        return cls(name=path.name, count=count, bytes=path.stat().st_size, sha256=file_sha256(path))

    def verify(self, folder: Path, remedy: str) -> None:
        """Refuse a file that is missing, cut or altered, by name."""
        path = folder / self.name
        self.verify_size(folder, remedy)
        if file_sha256(path) != self.sha256:
            raise UserError(f"{path}: damaged, its sha256 is not the recorded one; {remedy}")

    def verify_size(self, folder: Path, remedy: str) -> None:
        """Refuse a file that is missing or of another size, by name."""
        path = folder / self.name
        if not path.is_file():
            raise UserError(f"{path}: missing; {remedy}")
        if (size := path.stat().st_size) != self.bytes:
            raise UserError(f"{path}: has {size} bytes instead of {self.bytes}; {remedy}")


@contextmanager
def atomic(path: Path) -> Iterator[BinaryIO]:
    """Open a binary file for writing that appears under its name only once it is whole."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        _sync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def locked(folder: Path, doing: str, patience: float = 0) -> Iterator[None]:
    """Keep other processes out of a folder, by a lock that is beside it meanwhile.

    Raises:
        UserError: another process is in it, and still is after `patience` seconds; `doing` says
            what it does there.
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
    """Fill a temporary folder beside `folder`, which replaces `folder` only at a clean end.

    What was written into it by any means is on the disk before it gets its name.

    Raises:
        UserError: another process fills the same folder.
    """
    temporary = folder.with_name(f".{folder.name}.tmp")
    retired = folder.with_name(f".{folder.name}.old")
    with locked(folder, "fills this folder"):
        _restore(retired, folder)  # a killed process may have left it so
        _remove(temporary, retired)
        temporary.mkdir()
        try:
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
    """The one way that a value is written as JSON, so that equal values have equal bytes."""
    return (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode()


def read_json(path: Path, kind: type[Content], remedy: str) -> Content:
    """The content of a JSON file.

    Raises:
        UserError: it is missing, or is not of this kind.
    """
    try:
        return kind.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        raise UserError(f"{path}: missing; {remedy}") from None
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "content"
        raise UserError(f"{path}: {place}: {first['msg']}; {remedy}") from None


def write_json(path: Path, value: Any) -> None:
    """Write a value as JSON, atomically."""
    with atomic(path) as file:
        file.write(canonical_json(value))


def sha256(data: bytes) -> str:
    """Hexadecimal digest of bytes."""
    return hashlib.sha256(data).hexdigest()


def file_sha256(path: Path) -> str:
    """Hexadecimal digest of a file's content."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync(path: Path) -> None:
    """Let a file's content, or the names in a folder, outlast a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _restore(retired: Path, folder: Path) -> None:
    """Put an earlier folder back where no new one took its place."""
    if retired.exists() and not folder.exists():
        os.replace(retired, folder)


def _remove(*folders: Path) -> None:
    for folder in folders:
        if folder.exists():
            shutil.rmtree(folder)
