"""The user's own files: which there are below a folder, also behind links, and their content."""

import errno
import os
import stat
from collections import Counter
from pathlib import Path

from tqdm.auto import tqdm

from liquidgen.config.paths import own_path
from liquidgen.images.skipped import SkippedImages
from liquidgen.stages.download.sources.reasons import Reason
from liquidgen.utils.errors import UserError
from liquidgen.utils.text import escaped

MOST_WAYS = 1000  # to one folder; folders that link to each other have ways without number


class Unusable(Exception):
    """A file that cannot be used; its argument is the reason."""


def existing(path: str) -> Path:
    """Return the path of a user's own data, which must exist.

    Raises:
        UserError: There is nothing at the path.
    """
    found = own_path(path)
    if not found.exists():
        looked = "" if Path(path).is_absolute() else f" (looked for {found.resolve()})"
        raise UserError(
            f"{path}: no such folder{looked}; put your images there, or "
            "set `path` of the dataset's block"
        )
    return found


def walk(root: Path, skipped: SkippedImages) -> list[Path]:
    """List everything below a folder that is no folder.

    Links to folders are followed, each as if it were a folder of its own; but not a link to a
    folder that it lies in.

    Args:
        root: The folder.
        skipped: Gets the links that lead in a circle.

    Returns:
        Paths relative to the root, sorted.

    Raises:
        UserError: A folder cannot be read, or links between folders lead to it in too many ways.
    """
    found = []
    ways: Counter = Counter()
    waiting: list[tuple[Path, frozenset]] = [(Path(), frozenset())]
    bar = tqdm(desc="list", unit="file", delay=1)
    while waiting:
        folder, ancestors = waiting.pop()
        try:
            own = (root / folder).stat()
            names = os.listdir(root / folder)
        except OSError as error:
            name = escaped(str(root / folder))
            check_open_files(error, name)
            raise UserError(
                f"{name}: cannot be read ({error.strerror}); allow it, or move it"
            ) from None
        if (identity := (own.st_dev, own.st_ino)) in ancestors:
            skipped.add(folder.as_posix(), Reason.CIRCULAR_LINK)
            continue
        ways[identity] += 1
        if ways[identity] > MOST_WAYS:
            raise UserError(
                f"{escaped(str(root / folder))}: links lead to this folder in more than "
                f"{MOST_WAYS} ways; remove links between folders that hold each other"
            )
        bar.update(len(names))
        for name in names:
            path = folder / name
            if os.path.isdir(root / path):
                waiting.append((path, ancestors | {identity}))
            else:
                found.append(path)
    bar.close()
    return sorted(found)


def is_hidden(path: Path) -> bool:
    """Return whether a file, or a folder that it is in, is hidden or a leftover of macOS."""
    return any(part.startswith((".", "__MACOSX")) for part in path.parts)


def check_regular(path: Path) -> os.stat_result:
    """Return the size and more of a file that can be read to its end.

    Raises:
        Unusable: It is a device, a pipe or the like, or a link to nothing.
    """
    try:
        found = path.stat()
    except OSError:
        raise Unusable(Reason.UNREADABLE) from None
    if not stat.S_ISREG(found.st_mode):
        raise Unusable(Reason.NOT_A_FILE)
    return found


def read_file(path: Path, max_bytes: int) -> bytes:
    """Read a whole file.

    Raises:
        Unusable: It is no regular file, empty, larger than `max_bytes`, or cannot be read.
        UserError: Too many files are open.
    """
    size = check_regular(path).st_size
    if size == 0:  # also of files in /proc, some of which never end
        raise Unusable(Reason.EMPTY_FILE)
    if size > max_bytes:
        raise Unusable(Reason.TOO_LARGE)
    try:
        with open(path, "rb") as file:
            return file.read(size)  # no more, though it may grow meanwhile
    except OSError as error:
        check_open_files(error, escaped(str(path)))
        raise Unusable(Reason.UNREADABLE) from None


def check_open_files(error: OSError, name: str) -> None:
    """Raise UserError if a file could not be opened because too many are open."""
    if error.errno in (errno.EMFILE, errno.ENFILE):
        raise UserError(
            f"{name}: too many files are open; close some, or raise the limit (`ulimit -n`)"
        ) from None
