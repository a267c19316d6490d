"""Images of the hub's Parquet files as they come, without downloading the files whole.

Rows are read in a seeded order of files, kept in a spool on disk in the order in which they came,
and mixed within a buffer. An interrupted run reads the spool again and goes on after its last
chunk of 64 rows, at the row group that has the next row: it ends as an uninterrupted one does.
"""

import logging
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from itertools import islice

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from liquidgen.hub.errors import AGAIN, Unreachable, explained
from liquidgen.hub.listing import look_up
from liquidgen.hub.repository import HubRepo
from liquidgen.hub.session import bounded_requests
from liquidgen.stages.download.sources.columns import Columns, Rows
from liquidgen.stages.download.sources.remote import remote_file, remote_schema
from liquidgen.stages.download.sources.spool import Plan, Position, Spool
from liquidgen.utils.errors import UserError
from liquidgen.utils.files import canonical_json, sha256

log = logging.getLogger(__name__)
ROWS = 64  # a chunk: what a kill may cost


@dataclass(frozen=True)
class Stream:
    """Rows to be read once, and closed: until then other processes are kept from the spool.

    `discard` removes the spool, once the images are stored elsewhere.
    """

    commit: str
    schema: pa.Schema
    rows: Rows
    discard: Callable[[], None]


def open_stream(
    place: HubRepo,
    patterns: list[str],
    columns: Columns,
    *,
    seed: int,
    buffer: int,
    max_images: int | None,
) -> Stream:
    """Choose the order of files, and find out what the columns are.

    Raises:
        Unreachable: the hub does not answer, and no interrupted run left what is needed.
        UserError: what `look_up` and `Listing.matching` refuse, or other columns.
    """
    determines = [place.repo, place.revision, patterns, columns.names, seed]
    spool = Spool(place.cache / "liquidgen" / sha256(canonical_json(determines))[:16])
    plan = _plan(place, patterns, seed, spool)
    remote = _Remote(place, plan, columns)
    schema = spool.schema(plan) or remote_schema(place, plan.commit, plan.files[0])
    columns.check(place, schema)
    rows = mixed(_rows(spool, remote, schema), buffer, np.random.default_rng(seed))
    return Stream(plan.commit, schema, _first(rows, max_images), spool.discard)


def _first(rows: Rows, max_images: int | None) -> Rows:
    with closing(rows):
        yield from islice(rows, max_images)


def mixed(rows: Rows, buffer: int, rng: np.random.Generator) -> Rows:
    """The same rows in another order: each leaves a full buffer at random.

    As `datasets` shuffles streams, but without its buffer's loss when a stream is resumed.
    """
    held: list[tuple] = []
    with closing(rows):
        for row in rows:
            held.append(row)
            if len(held) > buffer:
                chosen = rng.integers(len(held))
                held[chosen], held[-1] = held[-1], held[chosen]
                yield held.pop()
    rng.shuffle(held)
    yield from held


def _plan(place: HubRepo, patterns: list[str], seed: int, spool: Spool) -> Plan:
    """The commit, and its files in a seeded order."""
    try:
        listing = look_up(place)
    except Unreachable as error:
        if (plan := spool.plan()) is None:
            raise
        log.warning("%s; going on with what an earlier run has received", error.reason)
        return plan
    names = [file.path for file in listing.matching(patterns, place)]
    order = np.random.default_rng(seed).permutation(len(names))
    return Plan(listing.commit, tuple(names[i] for i in order))


def _rows(spool: Spool, remote: "_Remote", schema: pa.Schema) -> Rows:
    """What the spool has of the plan, and then the rest; a spool of another plan starts anew."""
    with spool.following(remote.plan):
        position = Position(0, 0)
        for table, after in spool.chunks():
            yield from remote.columns.rows(table)
            position = after
        with closing(remote.tables(position, schema)) as tables:
            for table, after in tables:
                spool.append(table, after)
                yield from remote.columns.rows(table)


@dataclass(frozen=True)
class _Remote:
    """The files on the hub, read by parts."""

    place: HubRepo
    plan: Plan
    columns: Columns

    def tables(
        self, start: Position, schema: pa.Schema
    ) -> Generator[tuple[pa.Table, Position], None, None]:
        """Pieces of the wanted columns from a position on, each with the position after it.

        Raises:
            UserError: a file has other columns, or labels that mean others than in `schema`, the
                first file's.
        """
        with bounded_requests(), explained(self.place):
            for number in range(start.file, len(self.plan.files)):
                row = start.row if number == start.file else 0
                name = self.plan.files[number]
                with remote_file(self.place, self.plan.commit, name) as file:
                    where, found = f"{self.place}: {name}", file.schema_arrow
                    self.columns.check(where, found)
                    self.columns.check_labels(where, found, self.plan.files[0], schema)
                    for table in self._tail(number, file, row):
                        row += table.num_rows
                        yield table, Position(number, row)

    def _tail(self, number: int, file: pq.ParquetFile, skipped: int) -> Iterator[pa.Table]:
        """The rows of a file after the first ones; row groups before them are not read."""
        from huggingface_hub.errors import HfHubHTTPError

        try:
            for group in range(file.num_row_groups):
                count = file.metadata.row_group(group).num_rows
                if skipped >= count:
                    skipped -= count
                    continue
                for batch in file.iter_batches(
                    ROWS, row_groups=[group], columns=self.columns.names
                ):
                    if skipped < len(batch):
                        yield pa.Table.from_batches([batch.slice(skipped)])
                    skipped = max(0, skipped - len(batch))
        except (pa.ArrowInvalid, OSError) as error:
            if isinstance(error, HfHubHTTPError | ConnectionError):
                raise
            name, reason = self.plan.files[number], str(error).splitlines()[0]
            raise UserError(f"{self.place}: {name}: damaged ({reason}); {AGAIN}") from None
