"""Finds damaged outputs of the pipeline, and sets them aside so that `dvc repro` makes them again.

Bits rot in place, with size and time kept, so that DVC sees no change. A file in data/ is often the
same file as its object in DVC's cache, by a link: DVC would bring the damage back. So both have to
go: what a stage recorded about its files tells the damaged ones, and the names of DVC's objects,
which are digests, tell the others.
"""

import hashlib
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from tqdm import tqdm

from liquidgen.images.raw_info import INFO, read_info
from liquidgen.latents.manifest import MANIFEST, read_manifest
from liquidgen.utils.errors import UserError, reason_of
from liquidgen.utils.files import REMEDY, StoredFile, locked

ASIDE = Path("work/damaged")


class Checked(NamedTuple):
    """A file that was compared with its digest.

    Attributes:
        path: The file.
        size: Its size in bytes.
        damage: What is wrong, as one line with the remedy; empty: nothing.
    """

    path: Path
    size: int
    damage: str


class Record(NamedTuple):
    """How a kind of folder below data/ records its files.

    Attributes:
        name: The file that records the others.
        files: Reads it; returns the folder and entry of each recorded file.
    """

    name: str
    files: Callable[[Path], list[tuple[Path, StoredFile]]]


def _images(folder: Path) -> list[tuple[Path, StoredFile]]:
    splits = read_info(folder).splits.values()
    return [(folder, file) for split in splits for file in split.files]


def _latents(folder: Path) -> list[tuple[Path, StoredFile]]:
    splits = read_manifest(folder).splits.values()
    return [(folder, file) for split in splits for file in split.shards]


def _weights(folder: Path) -> list[tuple[Path, StoredFile]]:
    from liquidgen.generator.model_folder import NETWORK, read_metadata  # imports torch

    return [(folder / NETWORK, read_metadata(folder).weights)]


RECORDS = {
    "raw": Record(INFO, _images),
    "latents": Record(MANIFEST, _latents),
    "models": Record("model.json", _weights),
    "samples": Record(INFO, _images),
}


def check_outputs(root: Path) -> Iterator[Checked]:
    """Compare all outputs below data/ and metrics/ with their digests.

    Raises:
        UserError: DVC's settings cannot be read.
    """
    objects = _linked_objects(root)
    for folder in _with_bar("check data", _outputs(root)):
        yield from _check(folder, objects)


def set_aside_damage(root: Path) -> Iterator[str]:
    """Move damaged outputs to work/damaged, and delete damaged objects from DVC's cache.

    Yields:
        What was done, one line each.

    Raises:
        UserError: Another process writes one of the outputs, or DVC's settings cannot be read.
    """
    objects = _linked_objects(root)
    found = False
    for folder in _with_bar("check data", _outputs(root)):
        with locked(folder, "fills this folder"):
            for checked in _check(folder, objects):
                if checked.damage and checked.path.exists():
                    found = True
                    aside = _set_aside(root, checked.path)
                    yield f"{checked.path} was damaged and is now {aside}; run `dvc repro`"
    # an object can be damaged on its own: a stage that ran again has left it in the cache
    for path in _with_bar("check the cache", _objects(root) if found else []):
        if _md5(path) != _name(path):
            path.unlink()
            yield f"{path} was damaged and is deleted"


def _with_bar(what: str, paths: list[Path]) -> Iterator[Path]:
    """Yield paths under a bar, in a terminal: reading large data takes minutes."""
    yield from tqdm(paths, desc=what, leave=False, disable=None)


def _outputs(root: Path) -> list[Path]:
    folders = [*sorted(root.glob("data/*/[!.]*")), root / "metrics"]
    return [folder for folder in folders if folder.is_dir()]


def _check(folder: Path, objects: dict[tuple[int, int], str]) -> Iterator[Checked]:
    """Compare the files of an output with what its stage recorded, others with DVC's objects."""
    recorded = []
    if record := RECORDS.get(folder.parent.name):
        try:
            recorded = record.files(folder)
        except UserError as error:
            yield Checked(folder / record.name, 0, str(error))
    for parent, file in recorded:
        yield Checked(parent / file.name, file.bytes, _damage(parent, file))
    known = {parent / file.name for parent, file in recorded}
    for path in sorted(folder.rglob("*")):
        if path not in known and path.is_file() and (digest := objects.get(_identity(path))):
            damage = (
                "" if _md5(path) == digest else f"{path}: damaged, not as DVC knows it; {REMEDY}"
            )
            yield Checked(path, path.stat().st_size, damage)


def _damage(folder: Path, file: StoredFile) -> str:
    try:
        file.verify(folder)
    except UserError as error:
        return str(error)
    return ""


def _set_aside(root: Path, path: Path) -> Path:
    aside = root / ASIDE / path.relative_to(root)
    aside.parent.mkdir(parents=True, exist_ok=True)
    shutil.move(path.resolve(), aside)  # of a symbolic link the object itself
    path.unlink(missing_ok=True)
    return aside


def _objects(root: Path) -> list[Path]:
    """Return the objects in DVC's cache; each is named by the MD5 digest of its content.

    Raises:
        UserError: DVC's settings, which say where the cache is, cannot be read.
    """
    try:
        from dvc.config import Config, ConfigError
    except ImportError:  # of the extra `pipeline`, which only those who train need
        return []
    if not (root / ".dvc").is_dir():
        return []
    try:
        settings = Config(str(root / ".dvc"))
    except ConfigError as error:
        raise UserError(f"{root / '.dvc/config'}: {reason_of(error)}; correct it") from None
    cache = settings["cache"].get("dir") or root / ".dvc/cache"
    return [path for path in sorted(Path(cache).glob("files/md5/??/*")) if path.is_file()]


def _linked_objects(root: Path) -> dict[tuple[int, int], str]:
    """Return the digests of DVC's objects by the identity of their files."""
    return {_identity(path): _name(path) for path in _objects(root)}


def _identity(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_dev, status.st_ino


def _name(path: Path) -> str:
    return f"{path.parent.name}{path.stem}"  # `.dir` ends the names of lists of files


def _md5(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest()
