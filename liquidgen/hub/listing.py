"""What a repository holds, asked before anything else: a hub that hangs is found out in seconds."""

import time
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import partial
from typing import TYPE_CHECKING

from liquidgen.hub.errors import explained, offline
from liquidgen.hub.repository import HubRepo
from liquidgen.hub.session import BACKOFF, bounded_requests, pause, within, worth_another_try
from liquidgen.utils.errors import UserError

if TYPE_CHECKING:
    from huggingface_hub import DatasetInfo, HfApi, ModelInfo

DEADLINE = 10  # seconds until a hub counts as unreachable
ATTEMPTS = 3  # of an answer that is an error; silence leaves time for two
SHOWN = 8  # names in a message


@dataclass(frozen=True)
class RemoteFile:
    """A file on the hub, and the name under which the cache keeps its content.

    `etag` is the sha256 of a large file, and git's sha1 of a small one.
    """

    path: str
    size: int
    etag: str


@dataclass(frozen=True)
class Listing:
    """The files of a repository at a commit."""

    commit: str
    files: tuple[RemoteFile, ...]

    def matching(self, patterns: list[str], place: HubRepo) -> list[RemoteFile]:
        """Files by pattern, in the order of the patterns and then of names; `*` crosses folders.

        Raises:
            UserError: a pattern fits no file.
        """
        found: dict[str, RemoteFile] = {}
        for pattern in patterns:
            fitting = [file for file in self.files if fnmatchcase(file.path, pattern)]
            if not fitting:
                raise UserError(self._nothing_fits(pattern, place))
            found |= {file.path: file for file in fitting}
        return [*found.values()]

    def _nothing_fits(self, pattern: str, place: HubRepo) -> str:
        names = [file.path for file in self.files]
        parquet = [name for name in names if name.endswith(".parquet")]
        script = f"{place.repo.split('/')[-1]}.py"
        if place.type == "dataset" and script in names and not parquet:
            return (
                f"{place}: holds a script that makes the data ({script}) and no Parquet files, and "
                "code from the hub is never run; set `revision: refs/convert/parquet`, where the "
                "hub keeps a converted copy, and `files` to what is there"
            )
        shown = parquet or names
        key = "files" if place.type == "dataset" else "path"
        more = f" and {len(shown) - SHOWN} more" if len(shown) > SHOWN else ""
        return (
            f"{place}: no file fits {pattern!r}; there are: {', '.join(shown[:SHOWN])}{more}; "
            f"correct `{key}` of the block"
        )


def look_up(place: HubRepo) -> Listing:
    """Ask the hub for the commit and the files of a place; a few attempts, and a deadline.

    Raises:
        Unreachable: no answer in time, or offline mode.
        UserError: no such repository or revision, no access, or a limited rate.
    """
    from huggingface_hub import HfApi, is_offline_mode

    if is_offline_mode():
        raise offline(place)

    with bounded_requests(), explained(place):
        # the time limits of requests do not reach DNS, nor an answer that drips
        info = within(DEADLINE + 1, partial(_ask, HfApi(), place))
    files = [
        RemoteFile(
            path=sibling.rfilename,
            size=sibling.lfs.size if sibling.lfs else sibling.size,
            etag=sibling.lfs.sha256 if sibling.lfs else sibling.blob_id,
        )
        for sibling in info.siblings
    ]
    return Listing(info.sha, tuple(sorted(files, key=lambda file: file.path)))


def _ask(api: "HfApi", place: HubRepo) -> "DatasetInfo | ModelInfo":
    start = time.monotonic()
    for attempt in range(ATTEMPTS):
        left = DEADLINE - (time.monotonic() - start)
        try:
            return api.repo_info(
                place.repo,
                repo_type=place.type,
                revision=place.revision,
                files_metadata=True,
                timeout=min(DEADLINE / 2, left),
            )
        except Exception as error:
            late = time.monotonic() - start + BACKOFF[attempt] >= DEADLINE
            if late or attempt == ATTEMPTS - 1 or not worth_another_try(error):
                raise
            pause(error, BACKOFF[attempt])
    raise AssertionError("the last attempt returns or raises")
