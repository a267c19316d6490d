"""Parquet files on the hub, read by parts."""

from collections.abc import Iterator
from contextlib import contextmanager

import pyarrow as pa
import pyarrow.parquet as pq

from liquidgen.hub.errors import AGAIN, explained
from liquidgen.hub.repository import HubRepo
from liquidgen.hub.session import bounded_requests
from liquidgen.stages.download.sources.parquet import LEAN
from liquidgen.utils.errors import UserError

BLOCK = 4 * 2**20  # bytes a request
# a block for each column and more: by default one is kept, and columns fetch it in turns
CACHE = {"cache_type": "blockcache", "cache_options": {"maxblocks": 6}}


def remote_schema(place: HubRepo, commit: str, name: str) -> pa.Schema:
    """The columns of a file, read without its rows.

    Raises:
        Unreachable: the hub stopped answering.
        UserError: no access, or no Parquet file.
    """
    with bounded_requests(), explained(place), remote_file(place, commit, name) as file:
        return file.schema_arrow


@contextmanager
def remote_file(place: HubRepo, commit: str, name: str) -> Iterator[pq.ParquetFile]:
    """A file whose parts are fetched as they are read; raises UserError if it is no Parquet."""
    from huggingface_hub import HfFileSystem

    path = f"datasets/{place.repo}@{commit}/{name}"
    with HfFileSystem().open(path, "rb", block_size=BLOCK, **CACHE) as remote:
        try:
            file = pq.ParquetFile(remote, **LEAN)
        except pa.ArrowInvalid as error:
            raise UserError(
                f"{place}: {name}: not a Parquet file ({str(error).splitlines()[0]}); "
                f"leave it out of `files`, or if it should be one, {AGAIN}"
            ) from None
        yield file
