"""Datasets of the Hugging Face hub: their Parquet files, whole or streamed; no code is run."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pyarrow as pa

from liquidgen.config.settings import HubSettings
from liquidgen.hub.repository import HubRepo
from liquidgen.hub.snapshot import fetch
from liquidgen.stages.download.sources.base import Source, nothing
from liquidgen.stages.download.sources.classes import class_indices, class_names, spellings
from liquidgen.stages.download.sources.columns import Columns, Rows, records
from liquidgen.stages.download.sources.parquet import ParquetFiles
from liquidgen.stages.download.sources.remote import remote_schema
from liquidgen.stages.download.sources.stream import open_stream
from liquidgen.utils.errors import UserError


def open_hub(settings: HubSettings, num_workers: int) -> Source:
    """The images of a dataset of the hub; with `stream_buffer` they are not all downloaded.

    Raises:
        Unreachable: neither the hub nor the cache has it.
        UserError: no such repository, revision, files or columns; no access; a limited rate.
    """
    place = HubRepo("dataset", settings.repo, settings.revision)
    columns = Columns(settings.image_column, settings.label_column)
    if settings.stream_buffer is None:
        return _whole(settings, place, columns)
    stream = open_stream(
        place,
        settings.files,
        columns,
        seed=settings.seed,
        buffer=settings.stream_buffer,
        max_images=settings.max_images,
    )
    labels = _labels(settings, place, columns, stream.schema, None)
    total = settings.max_images
    return _source(settings, labels, stream.commit, total, stream.rows, stream.discard)


def _whole(settings: HubSettings, place: HubRepo, columns: Columns) -> Source:
    def look(commit: str, name: str) -> None:
        try:
            schema = remote_schema(place, commit, name)
        except (UserError, OSError):  # a transfer survives more of a hub, such as damage
            return
        columns.check(f"{place.repo}: {name}", schema)

    snapshot = fetch(place, settings.files, look)
    paths = {f"{place.repo}: {name}": snapshot.folder / name for name in snapshot.files}
    files = ParquetFiles.open(paths, columns)
    labels = _labels(settings, place, columns, files.schema, files)
    total = min(files.count, settings.max_images or files.count)
    rows = files.rows(settings.max_images, settings.seed)
    return _source(settings, labels, snapshot.commit, total, rows, nothing)


def _source(
    settings: HubSettings,
    labels: "_Labels | None",
    commit: str,
    total: int | None,
    rows: Rows,
    release: Callable[[], None],
) -> Source:
    refused: Counter = Counter()
    return Source(
        classes=None if labels is None else labels.classes,
        license=settings.license,
        origin=f"{settings.repo} of the Hugging Face hub",
        revision=commit,
        total=total,
        records=records(rows, None if labels is None else labels.class_of, refused),
        refused=refused,
        release=release,
    )


@dataclass(frozen=True)
class _Labels:
    """Names of the classes, and the class of each value of the label column."""

    classes: tuple[str, ...]
    class_of: dict


def _labels(
    settings: HubSettings,
    place: HubRepo,
    columns: Columns,
    schema: pa.Schema,
    files: ParquetFiles | None,
) -> _Labels | None:
    """None: unlabelled. Text is its own name: found by a search of whole files, or in `classes`."""
    if columns.label is None:
        return None
    numbers = pa.types.is_integer(schema.field(columns.label).type)
    values: Sequence
    if names := columns.label_names(schema) or settings.label_names:
        values = range(len(names))
    elif files is not None and not (numbers and settings.classes):
        values = files.label_values()
        names = [str(value) for value in values]
    elif settings.classes and not numbers:
        values = names = spellings(settings.classes)
    else:
        key = "label_names" if numbers else "classes"
        raise UserError(
            f"{place}: the labels in {columns.label!r} have no names; set `{key}` of the block to "
            f"them, as the dataset's page lists them: {place.page}"
        )
    if settings.classes is None:
        return _Labels(tuple(names), {value: i for i, value in enumerate(values)})
    of_label = class_indices(place, names, settings.classes)
    class_of = {value: of_label[label] for label, value in enumerate(values)}
    return _Labels(class_names(settings.classes), class_of)
