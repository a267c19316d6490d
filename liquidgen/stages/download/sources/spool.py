"""What a stream has received so far, on disk: chunks of rows, each with the place to go on at."""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from liquidgen.utils.errors import UserError
from liquidgen.utils.files import atomic, locked, write_json

PLAN = "plan.json"
KEY = b"liquidgen"  # of the position, in a chunk's metadata


@dataclass(frozen=True)
class Plan:
    """The files of a stream in their order, and the commit that they belong to."""

    commit: str
    files: tuple[str, ...]


@dataclass(frozen=True)
class Position:
    """A place in a stream: the number of a file, and of the row to come."""

    file: int
    row: int


class Spool:
    """A folder of chunks. Each is written whole or not at all, and names what follows it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._count = 0  # of chunks known to be whole

    def plan(self) -> Plan | None:
        """The plan that the chunks follow, if there are any."""
        try:
            content = json.loads((self.folder / PLAN).read_bytes())
        except FileNotFoundError:
            return None
        return Plan(content["commit"], tuple(content["files"]))

    @contextmanager
    def following(self, plan: Plan) -> Iterator[None]:
        """Keep the chunks of the same plan and no others, and other processes out meanwhile.

        Raises:
            UserError: another process is in it.
        """
        with locked(self.folder, "streams the same images"):
            if self.plan() != plan:
                shutil.rmtree(self.folder, ignore_errors=True)
                self.folder.mkdir(parents=True)
                write_json(self.folder / PLAN, asdict(plan))
            yield

    def schema(self, plan: Plan) -> pa.Schema | None:
        """Of the columns, if a chunk of the plan is there."""
        if self.plan() == plan:
            for table, _ in self.chunks():
                return table.schema
        return None

    def chunks(self) -> Iterator[tuple[pa.Table, Position]]:
        """What has been received, and the position after each chunk."""
        self._count = 0
        while (path := self._path(self._count)).is_file():
            try:
                table = pq.read_table(path)
            except (pa.ArrowInvalid, OSError):  # damaged on the disk: it comes again
                return
            self._count += 1
            yield table, Position(**json.loads(table.schema.metadata[KEY]))

    def append(self, table: pa.Table, after: Position) -> None:
        """Keep a chunk, after all that `chunks` gave."""
        metadata = (table.schema.metadata or {}) | {KEY: json.dumps(asdict(after))}
        with atomic(self._path(self._count)) as file:
            marked = table.replace_schema_metadata(metadata)
            pq.write_table(marked, file, compression="none", use_dictionary=False)
        self._count += 1

    def discard(self) -> None:
        """Remove everything, unless another process has begun to use it."""
        with suppress(UserError), locked(self.folder, "streams the same images"):
            shutil.rmtree(self.folder, ignore_errors=True)

    def _path(self, number: int) -> Path:
        return self.folder / f"{number:06d}.parquet"
