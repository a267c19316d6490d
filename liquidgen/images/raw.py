"""The raw format: image files as they are, in Parquet files that `datasets` can read.

A folder holds `<split>-<number>.parquet` with the columns `image{bytes, path}` and, in labeled
data, `label`, and `dataset.json`. The samples of a model are written in this format, too.
"""

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from tqdm.auto import tqdm

from liquidgen.images.raw_info import RawInfo, RawSplit, read_info, write_info
from liquidgen.utils.errors import UserError, reason_of
from liquidgen.utils.files import REMEDY, StoredFile

IMAGES_PER_GROUP = 64  # of a Parquet row group, the unit of reading and decoding
BYTES_PER_GROUP = 256_000_000  # about the largest group; an array of Arrow holds 2 GiB


@dataclass(frozen=True)
class Record:
    """An image file.

    Attributes:
        data: Content of the file.
        path: Path that the file had.
        label: Index of its class; None in unlabeled data.
    """

    data: bytes
    path: str
    label: int | None


class RawWriter:
    """Writes records of any split in any order into a folder, in bounded memory.

    Use it as a context manager; `finish` writes `dataset.json`. Equal records give equal bytes.

    Args:
        folder: Existing folder.
        classes: Names of the labels; None: unlabeled data.
        max_file_mb: Size in MB at which the next Parquet file begins.
    """

    def __init__(self, folder: Path, classes: tuple[str, ...] | None, max_file_mb: int) -> None:
        self._folder = folder
        self._classes = classes
        self._max_bytes = max_file_mb * 1_000_000
        self._schema = _schema(classes)
        self._splits: dict[str, _SplitWriter] = {}

    def add(self, split: str, record: Record) -> None:
        """Append an image to a split."""
        if split not in self._splits:
            self._splits[split] = _SplitWriter(self._folder, split, self._schema, self._max_bytes)
        self._splits[split].add(record)

    def finish(
        self,
        *,
        license: str,
        origin: str,
        revision: str | None,
        refused: dict[str, int],
        sampling: dict[str, str | int | float] | None = None,
    ) -> RawInfo:
        """Close the files and describe them in `dataset.json`.

        Args:
            license: License of the images.
            origin: Where the images come from.
            revision: Version of the origin, where it has versions.
            refused: Numbers of files that were not written, by reason.
            sampling: How a model generated the images; None: they are not samples of a model.
        """
        splits = {name: writer.finish(self._classes) for name, writer in self._splits.items()}
        info = RawInfo(
            classes=self._classes,
            license=license,
            origin=origin,
            revision=revision,
            refused=dict(sorted(refused.items())),
            sampling=sampling,
            splits=dict(sorted(splits.items())),
        )
        return write_info(self._folder, info)

    def __enter__(self) -> "RawWriter":
        return self

    def __exit__(self, *error: object) -> None:
        for writer in self._splits.values():
            writer.abandon()


class _SplitWriter:
    """Writes the Parquet files of one split."""

    def __init__(self, folder: Path, split: str, schema: pa.Schema, max_bytes: int) -> None:
        self._folder = folder
        self._split = split
        self._schema = schema
        self._max_bytes = max_bytes
        # the open file, and the images and bytes in it, with those of the unwritten group
        self._file: pq.ParquetWriter | None = None
        self._images_in_file = 0
        self._bytes_in_file = 0
        self._group: list[Record] = []
        self._bytes_in_group = 0
        # finished files, and images per label
        self._files: list[StoredFile] = []
        self._counts: Counter = Counter()

    @property
    def _path(self) -> Path:
        """Path of the open file, or of the next one."""
        return self._folder / f"{self._split}-{len(self._files):05d}.parquet"

    def add(self, record: Record) -> None:
        """Append an image; start another file if this one would exceed the limit."""
        size = len(record.data) + len(record.path)
        if self._images_in_file and self._bytes_in_file + size > self._max_bytes:
            self.close()
        self._group.append(record)
        self._images_in_file += 1
        self._bytes_in_file += size
        self._counts[record.label] += 1
        self._bytes_in_group += size
        if len(self._group) == IMAGES_PER_GROUP or self._bytes_in_group >= BYTES_PER_GROUP:
            self._flush()

    def close(self) -> None:
        """End the current file; the next image starts another one."""
        self._flush()
        if self._file is not None:
            self._file.close()
            self._stream.close()
            self._files.append(StoredFile.of(self._path, self._images_in_file))
            self._file = None
            self._images_in_file = 0
            self._bytes_in_file = 0

    def abandon(self) -> None:
        """Close a file that is not finished, after an error; a no-op after `finish`."""
        if self._file is not None:
            # closing writes the footer, which fails again if the disk is full
            with suppress(OSError, pa.ArrowException):
                self._file.close()
            with suppress(OSError):
                self._stream.close()

    def finish(self, classes: tuple[str, ...] | None) -> RawSplit:
        """Close the last file and return the description of the split."""
        self.close()
        per_class = None
        if classes is not None:
            per_class = {name: self._counts[label] for label, name in enumerate(classes)}
        return RawSplit(count=self._counts.total(), per_class=per_class, files=tuple(self._files))

    def _flush(self) -> None:
        if not self._group:
            return
        if self._file is None:
            self._stream = open(self._path, "wb")  # noqa: SIM115, closed by close()
            self._file = pq.ParquetWriter(
                self._stream,
                self._schema,
                compression="none",
                use_dictionary=False,
                write_statistics=False,
            )
        columns: dict[str, list] = {
            "image": [{"bytes": r.data, "path": r.path} for r in self._group]
        }
        if "label" in self._schema.names:
            columns["label"] = [r.label for r in self._group]
        self._file.write_table(pa.table(columns, schema=self._schema))
        self._group = []
        self._bytes_in_group = 0


@dataclass(frozen=True)
class LoadedGroup:
    """A row group in memory, which can be sent to another machine.

    Attributes:
        start: Number of its first image in the split.
        records: Its records.
    """

    start: int
    records: list[Record]

    @property
    def count(self) -> int:
        """Number of images."""
        return len(self.records)

    def read(self) -> list[Record]:
        """Return the records."""
        return self.records


@dataclass(frozen=True)
class Group:
    """A row group of a raw file, which can be read on its own.

    Attributes:
        path: Path of the file.
        sha256: Digest of the file.
        index: Number of the row group in the file.
        start: Number of its first image in the split.
        count: Number of its images.
        num_classes: Number of classes, 0 in unlabeled data.
    """

    path: str
    sha256: str
    index: int
    start: int
    count: int
    num_classes: int

    def read(self) -> list[Record]:
        """Read the records of the group.

        Raises:
            UserError: The file does not hold what its description promises.
        """
        with _named(self.path):
            table = _open(self.path, self.sha256).read_row_group(self.index, use_threads=False)
        images = table.column("image").to_pylist()
        labels = [None] * len(images)
        if self.num_classes:
            labels = table.column("label").to_pylist()
        for number, (image, label) in enumerate(zip(images, labels, strict=True), self.start):
            wrong = self.num_classes and (label is None or not 0 <= label < self.num_classes)
            if wrong or image is None or None in image.values():
                raise UserError(
                    f"{self.path}: image {number} of the split has label {label}, or no bytes or "
                    f"path; labels are 0 to {self.num_classes - 1}; {REMEDY}"
                )
        return [
            Record(image["bytes"], image["path"], label)
            for image, label in zip(images, labels, strict=True)
        ]


class RawDataset:
    """Reads a folder in the raw format.

    Args:
        folder: The folder.

    Attributes:
        folder: The folder.
        info: Content of its `dataset.json`.
        classes: Names of the labels; None: unlabeled data.
        counts: Number of images by split.

    Raises:
        UserError: `dataset.json` is missing or of another format, or a file has another size
            than it says.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.info = read_info(folder)
        self.classes = self.info.classes
        self.counts = {name: split.count for name, split in self.info.splits.items()}
        for file in self._files():
            file.verify_size(folder)

    def verify(self, split: str | None = None, quiet: bool = False) -> None:
        """Compare the digests of the files, or of those of one split, with `dataset.json`.

        Args:
            split: Name of the split; None: all.
            quiet: Whether to show no bar.

        Raises:
            UserError: A file is missing or damaged, or there is no such split.
        """
        files = self._split(split).files if split else self._files()
        size = sum(file.bytes for file in files)
        bar = tqdm(desc="verify", total=size, unit="B", unit_scale=True, delay=1, disable=quiet)
        with bar:
            for file in files:
                file.verify(self.folder)
                bar.update(file.bytes)

    def groups(self, split: str) -> Iterator[Group]:
        """Yield the row groups of a split, in order."""
        start = 0
        for file in self._split(split).files:
            path = str(self.folder / file.name)
            metadata = self._metadata(path, file)
            for index in range(metadata.num_row_groups):
                count = metadata.row_group(index).num_rows
                yield Group(path, file.sha256, index, start, count, len(self.classes or ()))
                start += count

    def _metadata(self, path: str, file: StoredFile) -> pq.FileMetaData:
        """Return the metadata of a file, after a check of its columns and number of images."""
        with _named(path):
            opened = _open(path, file.sha256)
        if opened.metadata.num_rows != file.count:
            rows = opened.metadata.num_rows
            raise UserError(f"{path}: holds {rows} images instead of {file.count}; {REMEDY}")
        expected = _schema(self.classes)
        if not opened.schema_arrow.equals(expected):
            columns = ", ".join(f"{field.name}: {field.type}" for field in expected)
            raise UserError(f"{path}: has other columns than {columns}; {REMEDY}")
        return opened.metadata

    def records(self, split: str) -> Iterator[Record]:
        """Yield all images of a split in order, one row group in memory at a time."""
        for group in self.groups(split):
            yield from group.read()

    def _split(self, name: str) -> RawSplit:
        if name not in self.info.splits:
            known = ", ".join(self.info.splits)
            raise UserError(f"{self.folder}: no split {name!r}; there are: {known}")
        return self.info.splits[name]

    def _files(self) -> list[StoredFile]:
        return [file for split in self.info.splits.values() for file in split.files]


@contextmanager
def _named(path: str) -> Iterator[None]:
    """Turn errors of pyarrow about a file's content into one that names the file."""
    try:
        yield
    except (pa.ArrowInvalid, OSError) as error:
        if isinstance(error, OSError) and error.errno:  # of the system, not of the content
            raise
        raise UserError(f"{path}: no whole Parquet file ({reason_of(error)}); {REMEDY}") from None


@lru_cache(maxsize=4)
def _open(path: str, sha256: str) -> pq.ParquetFile:
    # the digest is part of the cache key: a new file may replace this one at the same path
    return pq.ParquetFile(path, memory_map=True)


def _schema(classes: tuple[str, ...] | None) -> pa.Schema:
    """Return the columns, with the metadata from which `datasets` infers Image and ClassLabel."""
    fields = [("image", pa.struct([("bytes", pa.binary()), ("path", pa.string())]))]
    features: dict = {"image": {"_type": "Image"}}
    if classes is not None:
        fields.append(("label", pa.int64()))
        features["label"] = {"names": list(classes), "_type": "ClassLabel"}
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    return pa.schema(fields, metadata=metadata)
