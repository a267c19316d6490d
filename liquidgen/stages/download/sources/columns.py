"""The columns of Parquet files that hold images and labels."""

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

import pyarrow as pa

from liquidgen.utils.errors import UserError
from liquidgen.utils.text import is_plain, listed

METADATA = b"huggingface"  # key of the features of `datasets`
INTEGERS = "integers"
TEXT = "text"
IMAGES = (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_binary_view)
LABELS = {
    # pandas stores whole numbers as floats where some are missing
    INTEGERS: (pa.types.is_integer, pa.types.is_floating),
    TEXT: (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view),
    "booleans": (pa.types.is_boolean,),
}
EMBED = "embed the images, as `datasets` does: cast the column to Image(), then push or save it"


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
            count = schema.names.count(column)
            if column is not None and count == 0:
                known = listed(schema.names, quotes=False)
                raise UserError(f"{source}: {key}: no column {column!r}; there are: {known}")
            if count > 1:
                raise UserError(
                    f"{source}: {key}: {count} columns are named {column!r}; rename or remove all "
                    "but one"
                )
        self._check_image(source, schema.field(self.image).type)
        if self.label is not None and self.label_kind(schema) is None:
            raise UserError(
                f"{source}: label_column: {self.label!r} is {schema.field(self.label).type}; it "
                "must hold integers, text or booleans, or be null for unlabeled images"
            )

    def _check_image(self, source: object, kind: pa.DataType) -> None:
        content = kind
        is_struct = pa.types.is_struct(kind)
        if is_struct and kind.get_field_index("bytes") >= 0:
            content = kind.field("bytes").type
        if any(is_(content) for is_ in IMAGES):
            return
        only_path = any(is_(kind) for is_ in LABELS[TEXT]) or (
            is_struct and kind.get_field_index("path") >= 0
        )
        raise UserError(
            f"{source}: image_column: {self.image!r} is {kind}; it must be struct{{bytes, path}} "
            "or binary" + (f": it holds only paths; {EMBED}" if only_path else "")
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
        kind = self.label_kind(schema)
        expected = self.label_kind(its)
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

    def label_kind(self, schema: pa.Schema) -> str | None:
        """Return the kind of the labels, a key of `LABELS`; None: another type."""
        label = schema.field(self.label).type
        plain = label.value_type if pa.types.is_dictionary(label) else label
        return next((k for k, checks in LABELS.items() if any(is_(plain) for is_ in checks)), None)

    def label_names(self, schema: pa.Schema) -> list[str] | None:
        """Return the names of the labels 0, 1, ... in a file's Hugging Face metadata, if any."""
        names = self._named(schema)
        return None if isinstance(names, str) or self.label_kind(schema) != INTEGERS else names

    def metadata_problem(self, schema: pa.Schema) -> str | None:
        """Return what is wrong with the names of the labels in a file's metadata, if anything."""
        names = self._named(schema)
        return names if isinstance(names, str) else None

    def _named(self, schema: pa.Schema) -> list[str] | str | None:
        """Return the names in the metadata; or text: why they cannot be used; None: there are none.

        Any program can write there.
        """
        stored = (schema.metadata or {}).get(METADATA)
        if stored is None or self.label is None:
            return None
        try:
            found: Any = json.loads(stored)
        except (ValueError, RecursionError):
            return "not valid JSON"
        for key in ("info", "features", self.label, "names"):
            if not isinstance(found, dict):
                return f"{key!r} is not where it should be"
            found = found.get(key)
            if found is None:
                return None
        if not isinstance(found, list) or not all(
            isinstance(name, str) and name and is_plain(name) for name in found
        ):
            return "names of classes are not text"
        if len(set(found)) < len(found):
            return "names of classes are doubled"
        return found or None

    def rows(self, batch: pa.RecordBatch, source: object) -> Iterator[tuple]:
        """Yield (image, value of the label column or None) for each row of a batch.

        Raises:
            UserError: A label that is no whole number.
        """
        images = batch.column(self.image).to_pylist()
        values = [None] * len(images) if self.label is None else self.labels(batch, source)
        return zip(images, values, strict=True)

    def labels(self, batch: pa.RecordBatch, source: object) -> list:
        """Return the values of the label column of a batch, floats as integers.

        Raises:
            UserError: A value that is no whole number.
        """
        return [self._whole(value, source) for value in batch.column(self.label).to_pylist()]

    def _whole(self, value: Any, source: object) -> Any:
        if not isinstance(value, float):
            return value
        if math.isnan(value):  # pandas' word for a missing number
            return None
        if not value.is_integer():
            raise UserError(
                f"{source}: label_column: {self.label!r} is {value} in a row; it must hold "
                "integers, text or booleans, or be null for unlabeled images"
            )
        return int(value)
