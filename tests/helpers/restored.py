"""A file that a test changes for a while."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def restored(path: Path) -> Iterator[None]:
    """A file has its content again after the context."""
    original = path.read_bytes()
    try:
        yield
    finally:
        path.write_bytes(original)
