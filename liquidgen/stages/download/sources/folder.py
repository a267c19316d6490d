"""A folder of image files: unlabeled, or one subfolder per class."""

import os
from collections import Counter
from collections.abc import Generator, Iterator
from pathlib import Path

from PIL import Image

from liquidgen.config.settings import FolderSettings
from liquidgen.images.decode import FORMATS
from liquidgen.images.raw import Record
from liquidgen.stages.download.sources.base import Source, existing
from liquidgen.utils.errors import UserError
from liquidgen.utils.files import sha256

HIDDEN = "hidden"
UNSUPPORTED = "unsupported_file"
BAD_NAME = "unprintable_name"
UNREADABLE = "unreadable"
NO_CLASS = "outside_class_folders"


def open_folder(settings: FolderSettings, num_workers: int) -> Source:
    """Read all images below a folder, in an order that mixes classes.

    With `labels: folders`, the class of an image is the name of the first folder below the path.

    Raises:
        UserError: The folder is missing, or has no class folders when it should.
    """
    root = existing(settings.path)
    if not root.is_dir():
        raise UserError(f"{settings.path}: not a folder; `kind: folder` needs one")
    refused: Counter = Counter()
    files = [path for path in _walk(root) if _usable(path, refused)]
    classes = None
    if settings.labels == "folders":
        inside = [path for path in files if len(path.parts) > 1]
        refused[NO_CLASS] += len(files) - len(inside)
        files = inside
        classes = tuple(sorted({path.parts[0] for path in inside}))
        if refused[NO_CLASS] and not classes:
            raise UserError(
                f"{settings.path}: images, but no subfolders with images; make one subfolder "
                "per class, or set `labels: none`"
            )
    # by digest of the path: any first part of the order is a random choice
    files.sort(key=lambda path: sha256(path.as_posix().encode()))
    if settings.max_images is not None:
        files = files[: settings.max_images]
    return Source(
        classes=classes,
        license=settings.license,
        origin=settings.path,
        revision=None,
        total=len(files),
        records=_read(root, files, classes, refused),
        refused=refused,
    )


def _walk(root: Path) -> Iterator[Path]:
    """Yield all files below the root, relative to it, also behind links to folders."""
    seen = set()
    for folder, subfolders, names in os.walk(root, followlinks=True, onerror=_unreadable):
        if (real := os.path.realpath(folder)) in seen:  # a link in a circle
            subfolders.clear()
            continue
        seen.add(real)
        for name in names:
            yield Path(folder, name).relative_to(root)


def _unreadable(error: OSError) -> None:
    raise UserError(f"{error.filename}: cannot be read ({error.strerror}); allow it, or move it")


def _usable(path: Path, refused: Counter) -> bool:
    if any(part.startswith((".", "__MACOSX")) for part in path.parts):
        refused[HIDDEN] += 1
        return False
    if not path.as_posix().isprintable():  # not UTF-8, which Parquet and JSON need
        refused[BAD_NAME] += 1
        return False
    if Image.registered_extensions().get(path.suffix.lower()) not in FORMATS:
        refused[UNSUPPORTED] += 1
        return False
    return True


def _read(
    root: Path, files: list[Path], classes: tuple[str, ...] | None, refused: Counter
) -> Generator[Record, None, None]:
    for path in files:
        try:
            data = (root / path).read_bytes()
        except OSError:
            refused[UNREADABLE] += 1
            continue
        label = None if classes is None else classes.index(path.parts[0])
        yield Record(data, path.as_posix(), label)
