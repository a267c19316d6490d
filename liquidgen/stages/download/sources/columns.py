"""The columns of Parquet files that hold images and labels."""

import json
from collections import Counter
from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

import pyarrow as pa

from liquidgen.images.raw import Record
from liquidgen.utils.errors import UserError

Rows = Generator[tuple, None, None]  # of (image, value of the label column or None)
NO_BYTES = "no_bytes"
NO_LABEL = "no_label"
LABELS = {
    "integers": (pa.types.is_integer,),
    "text": (pa.types.is_string, pa.types.is_large_string),
    "booleans": (pa.types.is_boolean,),
}


@dataclass(frozen=True)
class Columns:
    """Names of the columns.

    Attributes:
        image: Column of the images: bytes, or struct{bytes, path}.
        label: Column of the labels; None: the images are unlabeled.
    """

    image: str
    label: str | None

    @property
    def names(self) -> list[str]:
        """The columns to read."""
        return [self.image] if self.label is None else [self.image, self.label]

    def check(self, source: object, schema: pa.Schema) -> None:
        """Check that a file has the columns, and of the right types.

        Args:
            source: Name of the file in messages.
            schema: Its schema.

        Raises:
            UserError: It does not.
        """
        for key, column in (("image_column", self.image), ("label_column", self.label)):
            if column is not None and column not in schema.names:
                known = ", ".join(schema.names)
                raise UserError(f"{source}: {key}: no column {column!r}; there are: {known}")
        kind = schema.field(self.image).type
        if pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0:
            kind = kind.field("bytes").type
        if not (pa.types.is_binary(kind) or pa.types.is_large_binary(kind)):
            raise UserError(
                f"{source}: image_column: {self.image!r} is {kind}; it must be "
                "struct{bytes, path} or binary"
            )
        if self.label is not None and self._label_kind(schema) is None:
            raise UserError(
                f"{source}: label_column: {self.label!r} is {schema.field(self.label).type}; it "
                "must hold integers, text or booleans, or be null for unlabeled images"
            )

    def check_labels(
        self, source: object, schema: pa.Schema, first: object, its: pa.Schema
    ) -> None:
        """Check that the labels of a file mean the same as those of the first file.

        Args:
            source: Name of the file in messages.
            schema: Its schema.
            first: Name of the first file in messages.
            its: Schema of the first file.

        Raises:
            UserError: They do not.
        """
        if self.label is None:
            return
        kind = self._label_kind(schema)
        expected = self._label_kind(its)
        names = zip_longest(self.label_names(schema) or (), self.label_names(its) or ())
        if kind != expected:
            difference = f"holds {kind}, but {expected} in {first}"
        elif differing := [(i, *pair) for i, pair in enumerate(names) if pair[0] != pair[1]]:
            label, name, other = differing[0]
            difference = f"label {label} is {name!r}, but {other!r} in {first}"
        else:
            return
        raise UserError(
            f"{source}: label_column: {self.label!r} {difference}; files of one dataset must "
            "agree: leave one out, or set `label_column: null`"
        )

    def _label_kind(self, schema: pa.Schema) -> str | None:
        label = schema.field(self.label).type
        plain = label.value_type if pa.types.is_dictionary(label) else label
        return next((k for k, checks in LABELS.items() if any(is_(plain) for is_ in checks)), None)

    def label_names(self, schema: pa.Schema) -> list[str] | None:
        """Return the names of the labels 0, 1, ... in a file's Hugging Face metadata, if any."""
        metadata = (schema.metadata or {}).get(b"huggingface", b"{}")
        features = json.loads(metadata).get("info", {}).get("features", {})
        return features.get(self.label, {}).get("names") or None

    def rows(self, batch: pa.RecordBatch | pa.Table) -> Iterator[tuple]:
        """Yield (image, value of the label column or None) for each row of a batch."""
        images = batch.column(self.image).to_pylist()
        values = [None] * len(images)
        if self.label is not None:
            values = batch.column(self.label).to_pylist()
        return zip(images, values, strict=True)


def records(
    rows: Rows, class_of: dict[Any, int] | None, refused: Counter
) -> Generator[Record, None, None]:
    """Turn rows into records.

    Args:
        rows: Rows of `Columns.rows`, closed at the end.
        class_of: Class by value of the label column; None: the images are unlabeled.
        refused: Counter of the rows that give no record, by reason.

    Yields:
        The records.
    """
    with closing(rows):
        for number, (image, value) in enumerate(rows):
            is_struct = isinstance(image, dict)
            data = image["bytes"] if is_struct else image
            path = image.get("path") if is_struct else None
            if not data:
                refused[NO_BYTES] += 1
            elif class_of is not None and value not in class_of:
                refused[NO_LABEL] += 1
            else:
                label = None if class_of is None else class_of[value]
                yield Record(data, path or f"{number:07d}", label)
