"""Parquet files with a column of images, and perhaps one of labels."""

from collections import Counter
from dataclasses import dataclass
from itertools import compress
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from liquidgen.config.settings import ParquetSettings
from liquidgen.stages.download.sources.base import Source, existing
from liquidgen.stages.download.sources.columns import Columns, Rows, records
from liquidgen.utils.errors import UserError, reason_of

ROWS = 64  # per batch
REPLACE = "replace it"
# no `pre_buffer`: it keeps all that was read of a file until the file is closed
LEAN = {"pre_buffer": False, "buffer_size": 2**20}


def open_parquet(settings: ParquetSettings, num_workers: int) -> Source:
    """Read the rows of all Parquet files of a folder, sorted by name.

    Class names are those in the files' Hugging Face metadata, else the values of the column.

    Raises:
        UserError: No files, files that are no Parquet, no such columns, or differing labels.
    """
    root = existing(settings.path)
    found = [root] if root.is_file() else sorted(root.rglob("*.parquet"))
    paths = [path for path in found if path.is_file()]
    if not paths:
        raise UserError(f"{settings.path}: no *.parquet files below; set the folder that has them")
    columns = Columns(settings.image_column, settings.label_column)
    files = ParquetFiles.open({str(path): path for path in paths}, columns)
    names: dict | None = None
    if settings.label_column is not None:
        known = columns.label_names(files.schema)
        names = dict(enumerate(known)) if known else {v: str(v) for v in files.label_values()}
    refused: Counter = Counter()
    class_of = None if names is None else {value: i for i, value in enumerate(names)}
    return Source(
        classes=None if names is None else tuple(names.values()),
        license=settings.license,
        origin=settings.path,
        revision=None,
        total=min(files.count, settings.max_images or files.count),
        records=records(files.rows(settings.max_images, seed=0), class_of, refused),
        refused=refused,
    )


@dataclass(frozen=True)
class ParquetFiles:
    """Open files with the same columns.

    Attributes:
        files: The files, by their names in messages.
        columns: The columns to read.
        remedy: Remedy for a damaged file.
    """

    files: dict[str, pq.ParquetFile]
    columns: Columns
    remedy: str

    @classmethod
    def open(
        cls, paths: dict[str, Path], columns: Columns, remedy: str = REPLACE
    ) -> "ParquetFiles":
        """Open files by path.

        Args:
            paths: Paths, by the names of the files in messages.
            columns: The columns to read.
            remedy: Remedy for a damaged file.

        Raises:
            UserError: A damaged file, no such columns, or labels that differ between files.
        """
        files = {name: _open(name, path, remedy) for name, path in paths.items()}
        first = next(iter(files))
        for name, file in files.items():
            columns.check(name, file.schema_arrow)
            columns.check_labels(name, file.schema_arrow, first, files[first].schema_arrow)
        return cls(files, columns, remedy)

    @property
    def schema(self) -> pa.Schema:
        """Schema of the first file."""
        return next(iter(self.files.values())).schema_arrow

    @property
    def count(self) -> int:
        """Number of rows of all files."""
        return sum(file.metadata.num_rows for file in self.files.values())

    def label_values(self) -> list:
        """Return the distinct values of the label column, sorted."""
        values: set = set()
        for file in self.files.values():
            column = self.columns.label
            values.update(file.read([column]).column(column).unique().to_pylist())
        return sorted(values - {None})

    def rows(self, max_images: int | None, seed: int) -> Rows:
        """Yield (image, value of the label column) row by row.

        Args:
            max_images: Number of rows, a random choice in the order of the files; None: all.
            seed: Seed of the choice.
        """
        rows = self._rows()
        if max_images is None or max_images >= self.count:
            return rows
        # files are often sorted by class: the first rows would be of one class
        chosen = np.random.default_rng(seed).permutation(self.count)[:max_images]
        is_chosen = np.isin(np.arange(self.count), chosen)
        return (row for row in compress(rows, is_chosen))

    def _rows(self) -> Rows:
        for name, file in self.files.items():
            try:
                for batch in file.iter_batches(ROWS, columns=self.columns.names):
                    yield from self.columns.rows(batch)
            except (pa.ArrowInvalid, OSError) as error:
                reason = reason_of(error, lines=1)
                raise UserError(f"{name}: damaged ({reason}); {self.remedy}") from None


def _open(name: str, path: Path, remedy: str) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(path, **LEAN)
    except (pa.ArrowInvalid, OSError) as error:
        raise UserError(f"{name}: not a whole Parquet file ({error}); {remedy}") from None
