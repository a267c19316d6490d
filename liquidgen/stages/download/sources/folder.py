"""A folder of image files: unlabeled, or one subfolder per class."""

from collections import Counter
from collections.abc import Generator
from pathlib import Path

from PIL import Image

from liquidgen.config.settings import DownloadSettings, FolderSettings
from liquidgen.images.decode import FORMATS
from liquidgen.images.raw import Record
from liquidgen.images.skipped import SkippedImages
from liquidgen.stages.download.sources.base import Source
from liquidgen.stages.download.sources.own_files import (
    Unusable,
    existing,
    is_hidden,
    read_file,
    walk,
)
from liquidgen.stages.download.sources.reasons import Reason
from liquidgen.utils.errors import UserError
from liquidgen.utils.files import sha256
from liquidgen.utils.text import is_plain, listed

SPLIT_NAMES = {
    "train",
    "training",
    "val",
    "valid",
    "validation",
    "dev",
    "test",
    "testing",
    "holdout",
}


def open_folder(settings: FolderSettings, download: DownloadSettings, num_workers: int) -> Source:
    """Read all images below a folder, in an order that mixes classes.

    With `labels: folders`, the class of an image is the name of the first folder below the path.

    Raises:
        UserError: The folder is missing, or has no class folders when it should.
    """
    root = existing(settings.path)
    if not root.is_dir():
        raise UserError(f"{settings.path}: not a folder; `kind: folder` needs one")
    skipped = SkippedImages()
    files = [path for path in walk(root, skipped) if _is_image(path, skipped)]
    classes = None
    if settings.labels == "folders":
        files, classes = _with_class(files, settings.path, skipped)
        for path in sorted(root.iterdir()):
            # it would be a class that vanishes in silence
            if path.is_dir() and path.name not in classes and not is_hidden(Path(path.name)):
                skipped.add(f"{path.name}/", Reason.NO_IMAGES)
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
        records=_read(root, files, classes, skipped, download.max_image_mb * 1_000_000),
        skipped=skipped,
        unlabeled="labels: none",
    )


def _is_image(path: Path, skipped: SkippedImages) -> bool:
    """Judge a file by its name."""
    if is_hidden(path):
        reason = Reason.HIDDEN
    elif not is_plain(path.as_posix()):  # Parquet and JSON need UTF-8
        reason = Reason.UNPRINTABLE_NAME
    elif Image.registered_extensions().get(path.suffix.lower()) not in FORMATS:
        reason = Reason.UNSUPPORTED_FILE
    else:
        return True
    skipped.add(path.as_posix(), reason)
    return False


def _with_class(
    files: list[Path], folder: str, skipped: SkippedImages
) -> tuple[list[Path], tuple[str, ...]]:
    """Return the files in class folders, and the names of these.

    Raises:
        UserError: There are none, or their names or places are rather not those of classes.
    """
    inside = [path for path in files if len(path.parts) > 1]
    for path in files:
        if len(path.parts) == 1:
            skipped.add(path.as_posix(), Reason.OUTSIDE_CLASS_FOLDERS)
    classes = tuple(sorted({path.parts[0] for path in inside}))
    if files and not classes:
        raise UserError(
            f"{folder}: images, but no subfolders with images; make one subfolder per class, or "
            "set `labels: none`"
        )
    if classes and SPLIT_NAMES.issuperset(name.lower() for name in classes):
        largest = Counter(path.parts[0] for path in inside).most_common(1)[0][0]
        raise UserError(
            f"{folder}: its subfolders {listed(classes)} seem to be splits, not classes; set "
            f"`path` to one of them, such as {folder}/{largest}, or move their class folders "
            "together: images are held out by holdout_fraction; if they are classes, rename them"
        )
    if len(classes) == 1 and all(len(path.parts) > 2 for path in inside):
        below = sorted({path.parts[1] for path in inside})
        raise UserError(
            f"{folder}: its only subfolder with images, {classes[0]!r}, holds them in subfolders "
            f"({listed(below)}); if those are the classes, set `path: {folder}/{classes[0]}`; for "
            "images without classes, set `labels: none`"
        )
    return inside, classes


def _read(
    root: Path,
    files: list[Path],
    classes: tuple[str, ...] | None,
    skipped: SkippedImages,
    max_bytes: int,
) -> Generator[Record, None, None]:
    label_of = {name: label for label, name in enumerate(classes or ())}
    for path in files:
        try:
            data = read_file(root / path, max_bytes)
        except Unusable as unusable:
            skipped.add(path.as_posix(), str(unusable))
            continue
        yield Record(data, path.as_posix(), label_of[path.parts[0]] if label_of else None)
