"""Files of a repository: the list of a commit's, and their download into the shared cache."""

import logging
from dataclasses import dataclass
from functools import partial
from glob import escape
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from liquidgen.hub.errors import Unreachable, explained, unreachable
from liquidgen.hub.repository import HubRepo
from liquidgen.hub.session import bounded_requests, within

log = logging.getLogger(__name__)
DEADLINE = 11  # seconds; one more than the limit of a single request


@dataclass(frozen=True)
class Listing:
    """Files of a repository at a commit.

    Attributes:
        commit: Digest of the commit.
        files: Names of all files.
    """

    commit: str
    files: tuple[str, ...]


def look_up(repo: HubRepo) -> Listing:
    """Ask the hub for the commit of a revision, and for the names of its files.

    Where the hub cannot be reached, an earlier download in the cache answers, with a warning.

    Raises:
        Unreachable: Neither the hub nor the cache has it.
        UserError: No such repository or revision, no access, or a limited rate.
    """
    try:
        with bounded_requests(), explained(repo):
            # time limits of requests do not reach a name server, nor a response that arrives slowly
            return within(DEADLINE, partial(_ask, repo))
    except Unreachable as error:
        if (known := _cached_listing(repo)) is None:
            raise
        log.warning("%s; using the cached copy of commit %s", error.reason, known.commit)
        return known


def _ask(repo: HubRepo) -> Listing:
    from huggingface_hub import HfApi

    api = HfApi()
    ask = api.dataset_info if repo.type == "dataset" else api.model_info
    info = ask(repo.name, revision=repo.revision)
    if info.sha is None or info.siblings is None:
        raise unreachable("its answer lacks the commit or the names of the files")
    # notes in the cache which commit the revision is, for times without the hub
    api.resolve_revision(repo.name, repo_type=repo.type, revision=repo.revision)
    return Listing(info.sha, tuple(file.rfilename for file in info.siblings))


def _cached_listing(repo: HubRepo) -> Listing | None:
    """Return the listing that an earlier download has noted in the cache."""
    from huggingface_hub import HfApi, get_cached_repo_tree
    from huggingface_hub.errors import CachedRepoTreeNotFoundError, RevisionResolutionError

    where = {"repo_id": repo.name, "repo_type": repo.type, "revision": repo.revision}
    try:
        commit = HfApi().resolve_revision(**where, local_files_only=True).resolved
        tree = get_cached_repo_tree(**where)
    except (RevisionResolutionError, CachedRepoTreeNotFoundError):
        return None
    return Listing(commit, tuple(file.path for file in tree))


def download(repo: HubRepo, commit: str, names: list[str], *, force: bool = False) -> Path:
    """Download the files that the cache lacks.

    Args:
        repo: The repository.
        commit: The commit to download.
        names: Files of the repository.
        force: Download also what the cache has.

    Returns:
        The folder of the commit in the cache.

    Raises:
        Unreachable: The hub stopped answering.
        UserError: No access, a limited rate, or a failed transfer.
    """
    with bounded_requests(), explained(repo):
        return _snapshot(
            repo,
            commit,
            names,
            force_download=force,
            # an interruption loses what has arrived of the files under way; Xet is parallel in one
            max_workers=1,
            tqdm_class=tqdm,  # its own shows bytes only on a terminal
        )


def cached(repo: HubRepo, revision: str, names: list[str]) -> Path | None:
    """Find files in the cache, without a request.

    Args:
        repo: The repository.
        revision: A commit, or the name of one that an earlier look-up has noted.
        names: Files of the repository.

    Returns:
        The folder of the commit in the cache; None: not all of the files are in it.
    """
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        folder = _snapshot(repo, revision, names, local_files_only=True)
    except LocalEntryNotFoundError:
        return None
    # downloads of single files by other programs note no list of all files to compare with
    return folder if all((folder / name).is_file() for name in names) else None


def _snapshot(repo: HubRepo, revision: str, names: list[str], **options: Any) -> Path:
    """Call `snapshot_download` for exactly the named files."""
    from huggingface_hub import snapshot_download

    patterns = [escape(name) for name in names]
    folder = snapshot_download(
        repo.name, repo_type=repo.type, revision=revision, allow_patterns=patterns, **options
    )
    return Path(folder)
