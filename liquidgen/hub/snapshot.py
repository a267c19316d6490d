"""Files of a repository as a folder: from the hub, or from the cache where the hub is away."""

import json
import logging
import os
import shutil
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from liquidgen.hub.errors import Unreachable
from liquidgen.hub.listing import Listing, RemoteFile, look_up
from liquidgen.hub.repository import HubRepo
from liquidgen.hub.transfer import Look, bring
from liquidgen.utils.errors import UserError
from liquidgen.utils.files import atomic, locked, write_json

log = logging.getLogger(__name__)
PATIENCE = 60  # seconds to wait for another process that makes the same links


@dataclass(frozen=True)
class Snapshot:
    """Files of a commit, on this machine."""

    commit: str
    folder: Path
    files: tuple[str, ...]  # below the folder


def fetch(place: HubRepo, patterns: list[str], look: Look | None = None) -> Snapshot:
    """The files that fit the patterns, as the hub has them now.

    A hub that cannot be reached is warned of if the cache holds all of them. `look` is for `bring`.

    Raises:
        Unreachable: neither the hub nor the cache has them.
        UserError: what `look_up`, `Listing.matching` and `bring` refuse.
    """
    try:
        listing = look_up(place)
    except Unreachable as error:
        if (found := cached(place, patterns)) is None:
            raise
        message = "%s; going on with the copy in the cache, of commit %s"
        log.warning(message, error.reason, found.commit)
        return found
    files = listing.matching(patterns, place)
    bring(place, listing.commit, files, look)
    folder = _link(place, listing, files)
    return Snapshot(listing.commit, folder, tuple(file.path for file in files))


def cached(place: HubRepo, patterns: list[str]) -> Snapshot | None:
    """The files that fit the patterns if the cache holds all of them, without asking the hub."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    where = {"repo_type": place.type, "revision": place.revision}
    try:
        folder = Path(
            snapshot_download(place.repo, allow_patterns=patterns, local_files_only=True, **where)
        )
    except LocalEntryNotFoundError:
        return None
    # without a list of files, exact names alone can be told to be complete
    known = _known(place, folder.name) or patterns
    names = [name for pattern in patterns for name in known if fnmatchcase(name, pattern)]
    if not names or not all((folder / name).is_file() for name in names):
        return None
    return Snapshot(folder.name, folder, tuple(dict.fromkeys(names)))


def _known(place: HubRepo, commit: str) -> list[str] | None:
    """All files of a commit, as `fetch` or the hub's client noted them; None: neither did."""
    from huggingface_hub import get_cached_repo_tree
    from huggingface_hub.errors import CachedRepoTreeNotFoundError

    if (note := _note(place, commit)).is_file():
        return json.loads(note.read_bytes())
    try:
        tree = get_cached_repo_tree(place.repo, repo_type=place.type, revision=commit)
    except CachedRepoTreeNotFoundError:
        return None
    return sorted(entry.path for entry in tree)


def _link(place: HubRepo, listing: Listing, files: list[RemoteFile]) -> Path:
    """Make the commit's folder of the blobs, and note what `cached` must know.

    In the layout of the hub's client, but not by it: it asks the hub for every file once more,
    for minutes if the hub hangs, when nothing is missing.
    """
    folder, note = place.cache / "snapshots" / listing.commit, _note(place, listing.commit)
    with locked(note, f"links {place.repo}", PATIENCE):
        for file in files:
            link = folder / file.path
            if folder not in link.parents or ".." in link.parts:
                raise UserError(f"{place}: {file.path!r} is no name of a file; use another source")
            _link_file(place.cache / "blobs" / file.etag, link)
        write_json(note, [file.path for file in listing.files])
        if place.revision != listing.commit:
            reference = place.cache / "refs" / place.revision
            reference.parent.mkdir(parents=True, exist_ok=True)
            with atomic(reference) as target:
                target.write(listing.commit.encode())
    return folder


def _link_file(blob: Path, link: Path) -> None:
    link.parent.mkdir(parents=True, exist_ok=True)
    try:
        link.symlink_to(os.path.relpath(blob, link.parent))
    except FileExistsError:
        return
    except OSError:  # a disk without links
        with atomic(link) as target, open(blob, "rb") as source:
            shutil.copyfileobj(source, target)


def _note(place: HubRepo, commit: str) -> Path:
    return place.cache / "liquidgen" / f"{commit}.json"
