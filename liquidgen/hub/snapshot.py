"""Files of a repository as a folder: from the hub, or from the cache where the hub is away."""

import logging
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from tqdm.auto import tqdm

from liquidgen.errors import UserError
from liquidgen.hub.errors import Unreachable, explained
from liquidgen.hub.place import Place
from liquidgen.hub.probe import look_up
from liquidgen.hub.session import bounded_requests
from liquidgen.hub.transfer import bring

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Snapshot:
    """Files of a commit, on this machine."""

    commit: str
    folder: Path
    files: tuple[str, ...]  # below the folder


def fetch(place: Place, patterns: list[str]) -> Snapshot:
    """The files that fit the patterns, as the hub has them now.

    A hub that cannot be reached is warned of if the cache holds all of them.

    Raises:
        Unreachable: neither the hub nor the cache has them.
        UserError: what `look_up`, `Listing.matching` and `bring` refuse.
    """
    try:
        listing = look_up(place)
    except Unreachable as error:
        if (found := cached(place, patterns)) is None:
            raise
        log.warning("%s; going on with the copy in the cache, of commit %s", error, found.commit)
        return found
    files = listing.matching(patterns, place)
    bring(place, listing.commit, files)
    names = [file.path for file in files]
    return Snapshot(listing.commit, _link(place, listing.commit, names), tuple(names))


def cached(place: Place, patterns: list[str]) -> Snapshot | None:
    """The files that fit the patterns if the cache holds all of them, without asking the hub."""
    from huggingface_hub import get_cached_repo_tree, snapshot_download
    from huggingface_hub.errors import CachedRepoTreeNotFoundError, LocalEntryNotFoundError

    where = {"repo_type": place.type, "revision": place.revision}
    try:
        folder = Path(
            snapshot_download(place.repo, allow_patterns=patterns, local_files_only=True, **where)
        )
        known = sorted(entry.path for entry in get_cached_repo_tree(place.repo, **where))
    except LocalEntryNotFoundError:
        return None
    except CachedRepoTreeNotFoundError:
        known = patterns  # without a list of files, exact names alone can be told to be complete
    names = [name for pattern in patterns for name in known if fnmatchcase(name, pattern)]
    if not names or not all((folder / name).is_file() for name in names):
        return None
    return Snapshot(folder.name, folder, tuple(dict.fromkeys(names)))


def _link(place: Place, commit: str, names: list[str]) -> Path:
    """Let the hub's client make a folder of the blobs, and note the commit of the revision."""
    from huggingface_hub import snapshot_download

    with bounded_requests(), explained(place):
        folder = snapshot_download(
            place.repo,
            repo_type=place.type,
            revision=place.revision,
            allow_patterns=names,
            tqdm_class=_Silent,
        )
    if Path(folder).name != commit:
        raise UserError(f"{place}: it changed while it was downloaded; run it again")
    return Path(folder)


class _Silent(tqdm):
    """A bar that is not shown: the bytes have their own."""

    def __init__(self, *arguments: object, **options: object) -> None:
        super().__init__(*arguments, **(options | {"disable": True}))
