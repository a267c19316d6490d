"""Files from the hub: continued where they were cut, also by a kill, and checked when whole."""

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

from tqdm.auto import tqdm

from liquidgen.hub.errors import explained
from liquidgen.hub.listing import RemoteFile
from liquidgen.hub.repository import HubRepo
from liquidgen.hub.session import BACKOFF, bounded_requests, pause, worth_another_try
from liquidgen.utils.errors import UserError
from liquidgen.utils.files import file_sha256, locked

SHA256_LENGTH = 64
MUCH = 2**24  # bytes of a transfer, worth a look at its first file beforehand
PATIENCE = 3600  # seconds to wait for another process that brings the same file
Look = Callable[[str, str], None]  # with a commit and a file's name; may refuse it


def bring(place: HubRepo, commit: str, files: list[RemoteFile], look: Look | None = None) -> None:
    """Put the content of files into the cache's `blobs`, where the hub's own client looks first.

    That client starts a file anew after every kill and fails at once on a server error. Where
    much is to come, `look` sees the first file before.

    Raises:
        Unreachable: the hub stopped answering.
        UserError: no access, damage that repeats, or another process brings the same file.
    """
    blobs = place.cache / "blobs"
    blobs.mkdir(parents=True, exist_ok=True)
    missing = [file for file in files if not _is_whole(blobs / file.etag, file)]
    if not missing:
        return
    total = sum(file.size for file in missing)
    if look is not None and total > MUCH:
        look(commit, missing[0].path)
    bar = tqdm(desc=place.repo, total=total, unit="B", unit_scale=True, unit_divisor=1000)
    with bar, bounded_requests(), explained(place):
        for file in missing:
            target = blobs / file.etag
            # the processes of a stage all want the autoencoder: one brings it, the others wait
            with locked(target, f"downloads {place.repo}: {file.path}", PATIENCE):
                if _is_whole(target, file):
                    bar.update(file.size)
                else:
                    _bring(place, commit, file, target, bar)


def _bring(place: HubRepo, commit: str, file: RemoteFile, target: Path, bar: tqdm) -> None:
    from huggingface_hub import hf_hub_url

    # at the commit: a branch may move between two attempts
    url = hf_hub_url(place.repo, file.path, repo_type=place.type, revision=commit)
    partial = target.with_name(f"{target.name}.liquidgen")
    for _ in range(2):
        _complete(url, partial, file.size, bar)
        if _is_whole(partial, file):
            os.replace(partial, target)
            return
        partial.unlink()
        bar.update(-file.size)
    raise UserError(
        f"{place.repo}: {file.path} arrived damaged twice (its digest is not {file.etag[:12]}, as "
        "the hub says); try later or over another network: the damaged copy was removed"
    )


def _complete(url: str, partial: Path, size: int, bar: tqdm) -> None:
    """Fetch what a partial file lacks, in as many pieces as it takes.

    Attempts that bring nothing are limited; raises the last one's error.
    """
    import httpx2

    waits = iter(BACKOFF)
    bar.update(_length(partial))
    while not partial.exists() or _length(partial) < size:
        have = _length(partial)
        try:
            _append(url, partial, have, bar)
            if _length(partial) <= have < size:
                raise httpx2.RemoteProtocolError("an answer without content")
        except Exception as error:
            waits = iter(BACKOFF) if _length(partial) > have else waits
            wait = next(waits, None)
            if wait is None or not worth_another_try(error):
                raise
            pause(error, wait)


def _append(url: str, partial: Path, have: int, bar: tqdm) -> None:
    from huggingface_hub import get_session, hf_raise_for_status
    from huggingface_hub.utils import build_hf_headers

    headers = build_hf_headers() | {"Accept-Encoding": "identity"}
    headers |= {"Range": f"bytes={have}-"} if have else {}
    with get_session().stream("GET", url, headers=headers) as response:
        hf_raise_for_status(response)
        continued = response.status_code == 206
        if have and not continued:
            bar.update(-have)
        with open(partial, "ab" if continued else "wb") as file:
            for piece in response.iter_bytes():
                file.write(piece)
                file.flush()  # what a kill leaves is what counts
                bar.update(len(piece))
            os.fsync(file.fileno())


def _length(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _is_whole(path: Path, file: RemoteFile) -> bool:
    """Whether a path holds a file's content, by size and digest."""
    if not path.is_file() or path.stat().st_size != file.size:
        return False
    if len(file.etag) == SHA256_LENGTH:
        return file_sha256(path) == file.etag
    data = path.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest() == file.etag
