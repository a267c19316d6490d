"""Parquet files with a column of images, and perhaps one of classes."""

import json
from collections import Counter
from collections.abc import Iterator
from itertools import compress
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from liquidgen.data.raw import Record
from liquidgen.data.sources.base import Source, existing
from liquidgen.errors import UserError
from liquidgen.settings import ParquetSettings

NO_BYTES = "no_bytes"
NO_LABEL = "no_label"
ROWS = 64  # read at once
LABELS = (
    pa.types.is_integer,
    pa.types.is_string,
    pa.types.is_large_string,
    pa.types.is_boolean,
)


def open_parquet(settings: ParquetSettings, num_workers: int) -> Source:
    """Stream the rows of all Parquet files of a folder, by name.

    Class names are those of the files' Hugging Face metadata, else the values of the column.

    Raises:
        UserError: no files, files that are no Parquet, or no such columns.
    """
    root = existing(settings.path)
    found = [root] if root.is_file() else sorted(root.rglob("*.parquet"))
    paths = [path for path in found if path.is_file()]
    if not paths:
        raise UserError(f"{settings.path}: no *.parquet files below; set the folder that has them")
    files = [_open(path) for path in paths]
    for path, file in zip(paths, files, strict=True):
        _check_columns(path, file.schema_arrow, settings)
    labels = None if settings.label_column is None else _labels(files, settings.label_column)
    refused: Counter = Counter()
    rows = _rows(paths, files, settings)
    total = sum(file.metadata.num_rows for file in files)
    if settings.max_images is not None and settings.max_images < total:
        # files are often sorted by class: the first rows would be of one
        chosen = np.random.default_rng(0).permutation(total)[: settings.max_images]
        rows = compress(rows, np.isin(np.arange(total), chosen))
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
    if settings.label_column is not None:
        label = schema.field(settings.label_column).type
        plain = label.value_type if pa.types.is_dictionary(label) else label
        if not any(check(plain) for check in LABELS):
            raise UserError(
                f"{path}: label_column: {settings.label_column!r} is {label}; it must hold "
                "integers, text or booleans, or be null for unlabelled images"
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


def _rows(
    paths: list[Path], files: list[pq.ParquetFile], settings: ParquetSettings
) -> Iterator[tuple]:
    """(image, value of the label column or None) row by row."""
    columns = [settings.image_column]
    columns += [] if settings.label_column is None else [settings.label_column]
    for path, file in zip(paths, files, strict=True):
        for batch in _batches(path, file, columns):
            images = batch.column(settings.image_column).to_pylist()
            values = [None] * len(images)
            if settings.label_column is not None:
                values = batch.column(settings.label_column).to_pylist()
            yield from zip(images, values, strict=True)


def _batches(path: Path, file: pq.ParquetFile, columns: list[str]) -> Iterator[pa.RecordBatch]:
    try:
        yield from file.iter_batches(ROWS, columns=columns)
    except (pa.ArrowInvalid, OSError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"{path}: damaged ({reason}); replace it") from None


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
