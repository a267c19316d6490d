"""Parquet files with a column of images, and perhaps one of labels."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import compress
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from liquidgen.config.settings import DownloadSettings, ParquetSettings
from liquidgen.images.skipped import SkippedImages
from liquidgen.stages.download.sources.base import Source
from liquidgen.stages.download.sources.columns import Columns
from liquidgen.stages.download.sources.labels import choose_classes
from liquidgen.stages.download.sources.own_files import (
    Unusable,
    check_regular,
    existing,
    is_hidden,
    walk,
)
from liquidgen.stages.download.sources.reasons import Reason
from liquidgen.stages.download.sources.rows import (
    LEAN,
    Rows,
    explained_damage,
    label_values,
    read_rows,
    records,
)
from liquidgen.utils.errors import UserError
from liquidgen.utils.text import escaped

log = logging.getLogger(__name__)
REPLACE = "replace it"


def open_parquet(settings: ParquetSettings, download: DownloadSettings, num_workers: int) -> Source:
    """Read the rows of all Parquet files of a folder, sorted by name.

    Class names are those in the files' Hugging Face metadata, else the values of the column.

    Raises:
        UserError: No files, files that are no Parquet, no such columns, or differing labels.
    """
    skipped = SkippedImages()
    paths = _find(settings.path, skipped)
    columns = Columns(settings.image_column, settings.label_column)
    max_bytes = download.max_image_mb * 1_000_000
    files = ParquetFiles.open(
        {escaped(str(path)): path for path in paths}, columns, max_bytes, REPLACE
    )
    labels = None
    if settings.label_column is not None:
        known = columns.label_names(files.schema)
        used = files.label_values()
        names = dict(enumerate(known)) if known else {v: str(v) for v in sorted(used)}
        labels = choose_classes(settings.path, names, settings.classes, used)
    rows = files.rows(settings.max_images, seed=0)
    return Source(
        classes=None if labels is None else labels.classes,
        license=settings.license,
        origin=settings.path,
        revision=None,
        total=min(files.count, settings.max_images or files.count),
        records=records(rows, None if labels is None else labels.class_of, skipped, max_bytes),
        skipped=skipped,
        unlabeled="label_column: null",
    )


def _find(folder: str, skipped: SkippedImages) -> list[Path]:
    """Find the Parquet files of a folder, or the one that is named.

    Raises:
        UserError: There are none.
    """
    root = existing(folder)
    if not root.is_dir():
        found, root = [Path(root.name)], root.parent
    else:
        everything = walk(root, skipped)
        found = [path for path in everything if path.suffix.lower() == ".parquet"]
        if not found and any(path.suffix == ".arrow" for path in everything):
            raise UserError(
                f"{folder}: holds Arrow files, as save_to_disk of `datasets` writes them, and no "
                f"Parquet; write it with `datasets.load_from_disk({folder!r}).to_parquet(...)` (of "
                "each split), and set the folder of that"
            )
    paths = []
    for path in found:
        try:
            if is_hidden(path):
                raise Unusable(Reason.HIDDEN)
            check_regular(root / path)
        except Unusable as unusable:
            skipped.add(path.as_posix(), str(unusable))
        else:
            paths.append(root / path)
    if not paths:
        raise UserError(f"{folder}: no *.parquet files below; set the folder that has them")
    return paths


@dataclass(frozen=True)
class ParquetFiles:
    """Files with the same columns, each of which is open only while it is read.

    Attributes:
        paths: Paths, by the names of the files in messages.
        columns: The columns to read.
        max_bytes: Size of the largest image.
        remedy: Remedy for a damaged file.
        schema: Schema of the first file.
        count: Number of rows of all files.
    """

    paths: dict[str, Path]
    columns: Columns
    max_bytes: int
    remedy: str
    schema: pa.Schema
    count: int

    @classmethod
    def open(
        cls, paths: dict[str, Path], columns: Columns, max_bytes: int, remedy: str
    ) -> "ParquetFiles":
        """Check the columns of all files, and warn of metadata that cannot be used.

        Raises:
            UserError: A damaged file, no such columns, or labels that differ between files.
        """
        first, schema = "", pa.schema([])
        count = 0
        problems: dict[str, str] = {}
        for name, path in paths.items():
            with _opened(name, path, remedy) as file:
                its = file.schema_arrow
                columns.check(name, its)
                count += file.metadata.num_rows
            if not first:
                first, schema = name, its
            columns.check_labels(name, its, first, schema)
            if problem := columns.metadata_problem(its):
                problems[name] = problem
        warn_of_metadata(problems)
        return cls(paths, columns, max_bytes, remedy, schema, count)

    def label_values(self) -> set:
        """Return the distinct values of the label column."""
        values: set = set()
        for name, path in self.paths.items():
            with _opened(name, path, self.remedy) as file:
                values |= label_values(file, name, self.columns, self.max_bytes)
        return values

    def rows(self, max_images: int | None, seed: int) -> Rows:
        """Yield row by row.

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
        for name, path in self.paths.items():
            with _opened(name, path, self.remedy) as file:
                yield from read_rows(file, name, self.columns, self.max_bytes)


def warn_of_metadata(problems: dict[str, str]) -> None:
    """Warn once of files whose metadata name no classes, by name of the file."""
    for name, problem in [*problems.items()][:1]:
        more = f", as in {len(problems) - 1} more files" if len(problems) > 1 else ""
        log.warning("%s: its `huggingface` metadata are ignored (%s)%s", name, problem, more)


@contextmanager
def _opened(name: str, path: Path, remedy: str) -> Iterator[pq.ParquetFile]:
    with explained_damage(name, remedy, "not a whole Parquet file"):
        file = pq.ParquetFile(path, **LEAN)
    with explained_damage(name, remedy), file:
        yield file
