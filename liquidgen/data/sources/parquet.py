"""Parquet files with a column of images, and perhaps one of classes."""

import json
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from liquidgen.data.raw import Record
from liquidgen.data.sources.base import Source, existing
from liquidgen.errors import UserError
from liquidgen.settings import ParquetSettings

NO_BYTES = "no_bytes"
NO_LABEL = "no_label"
ROWS = 64  # read at once


def open_parquet(settings: ParquetSettings, num_workers: int) -> Source:
    """Stream the rows of all Parquet files of a folder, by name.

    Class names are those of the files' Hugging Face metadata, else the values of the column.

    Raises:
        UserError: no files, files that are no Parquet, or no such columns.
    """
    root = existing(settings.path)
    paths = [root] if root.is_file() else sorted(root.rglob("*.parquet"))
    if not paths:
        raise UserError(f"{settings.path}: no *.parquet files below; set the folder that has them")
    files = [_open(path) for path in paths]
    for path, file in zip(paths, files, strict=True):
        _check_columns(path, file.schema_arrow, settings)
    labels = None if settings.label_column is None else _labels(files, settings.label_column)
    refused: Counter = Counter()
    rows = islice(_rows(files, settings), settings.max_images)
    total = sum(file.metadata.num_rows for file in files)
    return Source(
        classes=None if labels is None else tuple(labels.values()),
        license=settings.license,
        origin=settings.path,
        revision=None,
        total=min(total, settings.max_images or total),
        records=_records(rows, labels, refused),
        refused=refused,
    )


def _open(path: Path) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise UserError(f"{path}: not a whole Parquet file ({error}); replace it") from None


def _check_columns(path: Path, schema: pa.Schema, settings: ParquetSettings) -> None:
    for key in ("image_column", "label_column"):
        column = getattr(settings, key)
        if column is not None and column not in schema.names:
            known = ", ".join(schema.names)
            raise UserError(f"{path}: {key}: no column {column!r}; there are: {known}")
    kind = schema.field(settings.image_column).type
    if pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0:
        kind = kind.field("bytes").type
    if not (pa.types.is_binary(kind) or pa.types.is_large_binary(kind)):
        raise UserError(
            f"{path}: image_column: {settings.image_column!r} is {kind}; it must be "
            "struct{bytes, path} or binary"
        )


def _labels(files: list[pq.ParquetFile], column: str) -> dict[Any, str]:
    """Value in the column -> name of the class, in the order of the classes."""
    metadata = files[0].schema_arrow.metadata or {}
    features = json.loads(metadata.get(b"huggingface", b"{}")).get("info", {}).get("features", {})
    names = features.get(column, {}).get("names")
    if names:
        return dict(enumerate(names))
    values: set = set()
    for file in files:
        values.update(file.read([column]).column(column).unique().to_pylist())
    return {value: str(value) for value in sorted(values - {None})}


def _rows(files: list[pq.ParquetFile], settings: ParquetSettings) -> Iterator[tuple]:
    """(image, value of the label column or None) row by row."""
    columns = [settings.image_column]
    columns += [] if settings.label_column is None else [settings.label_column]
    for file in files:
        for batch in file.iter_batches(ROWS, columns=columns):
            images = batch.column(settings.image_column).to_pylist()
            values = [None] * len(images)
            if settings.label_column is not None:
                values = batch.column(settings.label_column).to_pylist()
            yield from zip(images, values, strict=True)


def _records(
    rows: Iterator[tuple], labels: dict[Any, str] | None, refused: Counter
) -> Iterator[Record]:
    index = None if labels is None else {value: i for i, value in enumerate(labels)}
    for number, (image, value) in enumerate(rows):
        data, path = (image["bytes"], image.get("path")) if isinstance(image, dict) else (image, "")
        if not data:
            refused[NO_BYTES] += 1
        elif index is not None and value not in index:
            refused[NO_LABEL] += 1
        else:
            yield Record(data, path or f"{number:07d}", None if index is None else index[value])
