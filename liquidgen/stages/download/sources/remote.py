"""Parquet files on the hub, read in parts through HfFileSystem and shuffled by `datasets`.

`load_dataset("parquet", streaming=True)` would read them, too, in three times the memory and twice
the time (its scanner reads ahead), with waits of a minute and more for each failing request; and
it takes the names of labels from the first file alone.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from liquidgen.hub.errors import RETRY_HINT, explained
from liquidgen.hub.repository import HubRepo
from liquidgen.hub.session import bounded_requests
from liquidgen.stages.download.sources.columns import Columns
from liquidgen.stages.download.sources.parquet import warn_of_metadata
from liquidgen.stages.download.sources.rows import LEAN, Row, Rows, explained_damage, read_rows
from liquidgen.utils.errors import UserError, reason_of

if TYPE_CHECKING:
    from huggingface_hub import HfFileSystem

BLOCK = 4 * 2**20  # bytes per request
# a block for each column and more: by default one is kept, and columns fetch it in turns
CACHE = {"cache_type": "blockcache", "cache_options": {"maxblocks": 6}}


@dataclass(frozen=True)
class RemoteParquet:
    """Files of a commit with the same columns.

    Attributes:
        repo: The repository.
        commit: Its commit.
        names: Files in it.
        columns: The columns to read.
        max_bytes: Size of the largest image.
    """

    repo: HubRepo
    commit: str
    names: tuple[str, ...]
    columns: Columns
    max_bytes: int

    def schema(self) -> pa.Schema:
        """Read the schema of the first file, without its rows.

        Raises:
            Unreachable: The hub stopped answering.
            UserError: No access, no Parquet file, or no such columns.
        """
        opened = self._open(_file_system(), self.names[0])
        with bounded_requests(), explained(self.repo), opened as file:
            if problem := self.columns.metadata_problem(file.schema_arrow):
                warn_of_metadata({f"{self.repo}: {self.names[0]}": problem})
            return file.schema_arrow

    def shuffled(
        self, first: pa.Schema, seed: int, buffer_size: int, max_images: int | None
    ) -> Rows:
        """Stream rows in a seeded order of files, and mixed within a buffer.

        The rows depend on nothing but the commit, the names and these arguments; `max_images`
        cuts their order short.

        Args:
            first: Schema of the first file, with whose labels those of the others must agree.
            seed: Seed of both orders.
            buffer_size: Number of images in memory.
            max_images: Number of images; None: all.

        Raises:
            Unreachable: The hub stopped answering.
            UserError: No access, a damaged file, or one with other columns or labels.
        """
        from datasets import IterableDataset  # takes a second

        files = {"names": [*self.names], "first": first}  # a list is what `datasets` shuffles
        rows = IterableDataset.from_generator(self._read, gen_kwargs=files)
        # one file at a time: by default ten are open, and much is read that is not taken
        rows = rows.shuffle(seed=seed, buffer_size=buffer_size, max_buffer_input_shards=1)
        if max_images is not None:
            rows = rows.take(max_images)
        with bounded_requests(), explained(self.repo):
            for row in rows:
                yield Row(**row)

    def _read(self, names: list[str], first: pa.Schema) -> Iterator[dict]:
        files = _file_system()
        for name in names:
            with self._open(files, name) as file:
                where = f"{self.repo}: {name}"
                self.columns.check_labels(where, file.schema_arrow, self.names[0], first)
                with _explained(where):
                    for row in read_rows(file, where, self.columns, self.max_bytes):
                        yield row._asdict()

    @contextmanager
    def _open(self, files: "HfFileSystem", name: str) -> Iterator[pq.ParquetFile]:
        """Open a file, parts of which are fetched as they are read, and check its columns."""
        path = f"datasets/{self.repo.name}@{self.commit}/{name}"
        with files.open(path, "rb", block_size=BLOCK, **CACHE) as remote:
            try:
                file = pq.ParquetFile(remote, **LEAN)
            except pa.ArrowInvalid as error:
                raise UserError(
                    f"{self.repo}: {name}: not a Parquet file ({reason_of(error, lines=1)}); "
                    f"leave it out of `files`, or if it should be one, {RETRY_HINT}"
                ) from None
            self.columns.check(f"{self.repo}: {name}", file.schema_arrow)
            yield file


@contextmanager
def _explained(where: str) -> Iterator[None]:
    """Explain damage; errors of the connection are left to `explained`."""
    from huggingface_hub.errors import HfHubHTTPError

    hub_error: Exception | None = None
    with explained_damage(where, RETRY_HINT):
        try:
            yield
        except (HfHubHTTPError, ConnectionError) as error:
            hub_error = error
    if hub_error is not None:
        raise hub_error


def _file_system() -> "HfFileSystem":
    """Return a file system without a cache: access may be granted after a login."""
    from huggingface_hub import HfFileSystem

    return HfFileSystem(skip_instance_cache=True)
