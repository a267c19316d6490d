"""Copies a folder of the head to a node, once per content."""

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from liquidgen.utils.errors import UserError
from liquidgen.utils.files import locked, new_folder

CHUNK = 2**24  # bytes per answer of the head
PATIENCE = 3600.0  # seconds to wait for another process of this node that copies the same
CACHE = Path("~/.cache/liquidgen/cluster")


class FolderServer:
    """Serves the files of a folder, as an actor on the head."""

    def __init__(self, folder: str) -> None:
        self._folder = Path(folder)

    def sizes(self) -> dict[str, int]:
        """Return the size in bytes of each file, by name."""
        files = (path for path in self._folder.iterdir() if not path.name.startswith("."))
        return {path.name: path.stat().st_size for path in files}

    def read(self, name: str, start: int) -> bytes:
        """Return at most `CHUNK` bytes of a file."""
        with (self._folder / name).open("rb") as file:
            file.seek(start)
            return file.read(CHUNK)


def copy_folder(server: Any, folder: Path, verify: Callable[[Path], object]) -> None:
    """Copy the folder of a `FolderServer` to a folder, unless a copy is there already.

    Args:
        server: Handle of the actor.
        folder: The copy, named after its content.
        verify: Raises UserError for a damaged copy, which is made again.
    """
    import ray

    with locked(folder.with_name(f"{folder.name}.copy"), "copies the same", PATIENCE):
        with suppress(UserError):
            if folder.exists():
                verify(folder)
                return
        with new_folder(folder) as temporary:
            for name, size in ray.get(server.sizes.remote()).items():
                with (temporary / name).open("wb") as file:
                    while file.tell() < size:
                        if not (chunk := ray.get(server.read.remote(name, file.tell()))):
                            raise UserError(f"{name}: became shorter while it was copied")
                        file.write(chunk)
        verify(folder)
