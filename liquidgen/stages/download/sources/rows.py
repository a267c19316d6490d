"""Rows of Parquet files, read in bounded memory, and the records that they become."""

import errno
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from liquidgen.images.raw import Record
from liquidgen.images.skipped import SkippedImages
from liquidgen.stages.download.sources.columns import Columns
from liquidgen.stages.download.sources.own_files import check_open_files
from liquidgen.stages.download.sources.reasons import Reason
from liquidgen.utils.errors import UserError, reason_of

ROWS = 64  # per batch
# no `pre_buffer`: it keeps all that was read of a file until the file is closed
LEAN = {"pre_buffer": False, "buffer_size": 2**20}
LARGE_DICTIONARY = 2_000_000  # bytes; writers begin to store plain values at half of it
PACKED = 100  # times smaller than its content; images do not shrink so much


class Row(NamedTuple):
    """A row of a file.

    Attributes:
        where: File and number of the row.
        image: Content of the image column.
        label: Value of the label column; None in unlabeled data.
        reason: Why it was not read; None: it was.
    """

    where: str
    image: Any
    label: Any
    reason: Reason | None = None


Rows = Generator[Row, None, None]


def read_rows(file: pq.ParquetFile, name: str, columns: Columns, max_bytes: int) -> Iterator[Row]:
    """Read a file row by row; those of a row group that is too large come with the reason only.

    Args:
        file: The file.
        name: Its name in messages.
        columns: The columns to read.
        max_bytes: Size of the largest image.

    Raises:
        UserError: A label that is no whole number.
    """
    number = 0
    for index in range(file.metadata.num_row_groups):
        group = file.metadata.row_group(index)
        limit = _rows_at_once(group, columns.names, max_bytes)
        if limit == 0:
            for _ in range(group.num_rows):
                yield Row(f"{name}: row {number}", None, None, Reason.TOO_LARGE)
                number += 1
            continue
        for batch in file.iter_batches(limit, row_groups=[index], columns=columns.names):
            for image, label in columns.rows(batch, name):
                yield Row(f"{name}: row {number}", image, label)
                number += 1


def label_values(file: pq.ParquetFile, name: str, columns: Columns, max_bytes: int) -> set:
    """Return the distinct values of the label column, without None.

    Raises:
        UserError: A value that is no whole number.
    """
    values: set = set()
    names = [column for column in (columns.label,) if column is not None]
    for index in range(file.metadata.num_row_groups):
        if limit := _rows_at_once(file.metadata.row_group(index), columns.names, max_bytes):
            for batch in file.iter_batches(ROWS * limit, row_groups=[index], columns=names):
                values.update(columns.labels(batch, name))
    return values - {None}


def _rows_at_once(group: pq.RowGroupMetaData, names: list[str], max_bytes: int) -> int:
    """Return how many rows of a group fit into memory together, by its metadata; 0: none."""
    chunks = [group.column(i) for i in range(group.num_columns)]
    read = [c for c in chunks if f"{c.path_in_schema}.".startswith(tuple(f"{n}." for n in names))]
    size = sum(chunk.total_uncompressed_size for chunk in read)
    is_packed = size > PACKED * sum(chunk.total_compressed_size for chunk in read)
    if size > max_bytes * (1 if is_packed else 2 * group.num_rows):  # twice: some may fit
        return 0
    # a value of a dictionary may stand in many rows
    dictionaries = [
        chunk.data_page_offset - chunk.dictionary_page_offset
        for chunk in read
        if chunk.has_dictionary_page
    ]
    if is_packed or max(dictionaries, default=0) > LARGE_DICTIONARY:
        return 1
    return max(1, min(ROWS, max_bytes * group.num_rows // max(size, 1)))


@contextmanager
def explained_damage(name: str, remedy: str, damage: str = "damaged") -> Iterator[None]:
    """Turn errors of reading a file into one line.

    Args:
        name: Name of the file in messages.
        remedy: Remedy for a damaged file.
        damage: What a damaged file is called.

    Raises:
        UserError: The file is damaged, cannot be opened, or needs more memory than there is.
    """
    try:
        yield
    except MemoryError as error:
        raise UserError(
            f"{name}: a row group needs more memory than there is ({reason_of(error, lines=1)}); "
            "write the file with smaller row groups"
        ) from None
    except (pa.ArrowException, UnicodeDecodeError) as error:
        raise UserError(f"{name}: {damage} ({reason_of(error, lines=1)}); {remedy}") from None
    except OSError as error:
        check_open_files(error, name)
        if error.errno == errno.EACCES:
            raise UserError(f"{name}: no permission to read it; grant it") from None
        raise UserError(f"{name}: {damage} ({reason_of(error, lines=1)}); {remedy}") from None


def records(
    rows: Rows, class_of: dict[Any, int] | None, skipped: SkippedImages, max_bytes: int
) -> Generator[Record, None, None]:
    """Turn rows into records.

    Args:
        rows: The rows, closed at the end.
        class_of: Class by value of the label column; None: the images are unlabeled.
        skipped: Gets the rows that give no record.
        max_bytes: Size of the largest image.

    Yields:
        The records.
    """
    with closing(rows):
        for number, row in enumerate(rows):
            image = row.image if isinstance(row.image, dict) else {"bytes": row.image}
            data = image["bytes"]
            path = image.get("path")
            path = path if isinstance(path, str) else ""
            if reason := row.reason or _reason(data, path, row.label, class_of, max_bytes):
                skipped.add(f"{row.where} ({path})" if path else row.where, reason)
            else:
                label = None if class_of is None else class_of[row.label]
                yield Record(data, path or f"{number:07d}", label)


def _reason(
    data: bytes | None, path: str, value: Any, class_of: dict[Any, int] | None, max_bytes: int
) -> Reason | None:
    """Return why a row gives no record; None: it gives one."""
    if not data:
        return Reason.ONLY_PATH if path else Reason.NO_BYTES
    if len(data) > max_bytes:
        return Reason.TOO_LARGE
    if class_of is not None and value not in class_of:
        # -1 is the label of `datasets` for none
        return Reason.NO_LABEL if value is None or value == -1 else Reason.OTHER_CLASS
    return None
