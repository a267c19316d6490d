"""Datasets of the Hugging Face hub: their Parquet files, downloaded or streamed; no code is run."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

import pyarrow as pa

from liquidgen.config.settings import HubSettings
from liquidgen.hub.download import Listing, cached, download, look_up, shown
from liquidgen.hub.errors import RETRY_HINT
from liquidgen.hub.repository import HubRepo
from liquidgen.stages.download.sources.base import Source
from liquidgen.stages.download.sources.classes import class_indices, class_names, spellings
from liquidgen.stages.download.sources.columns import Columns, Rows, records
from liquidgen.stages.download.sources.parquet import ParquetFiles
from liquidgen.stages.download.sources.remote import RemoteParquet
from liquidgen.utils.errors import UserError


def open_hub(settings: HubSettings, num_workers: int) -> Source:
    """Open a dataset of the hub; with `stream_buffer` its files are not downloaded.

    Raises:
        Unreachable: Neither the hub nor the cache has it.
        UserError: No such repository, revision, files or columns; no access; a limited rate.
    """
    repo = HubRepo("dataset", settings.repo, settings.revision)
    columns = Columns(settings.image_column, settings.label_column)
    listing = look_up(repo)
    names = matching(listing, settings.files, repo)
    remote = RemoteParquet(repo, listing.commit, tuple(names), columns)
    if settings.stream_buffer is not None:
        schema = remote.schema()
        labels = _labels(settings, repo, columns, schema, None)
        rows = remote.shuffled(schema, settings.seed, settings.stream_buffer, settings.max_images)
        return _source(settings, labels, listing.commit, settings.max_images, rows)

    folder = cached(repo, listing.commit, names)
    if folder is None:
        remote.schema()  # report wrong columns before a long download
        folder = download(repo, listing.commit, names)
    paths = {f"{repo.name}: {name}": folder / name for name in names}
    remedy = f"remove it from the cache (`hf cache rm dataset/{repo.name}`), then {RETRY_HINT}"
    files = ParquetFiles.open(paths, columns, remedy)
    labels = _labels(settings, repo, columns, files.schema, files)
    total = min(files.count, settings.max_images or files.count)
    rows = files.rows(settings.max_images, settings.seed)
    return _source(settings, labels, listing.commit, total, rows)


def matching(listing: Listing, patterns: list[str], repo: HubRepo) -> list[str]:
    """Choose files by patterns, in which `*` crosses folders.

    Returns:
        Names in the order of the patterns, and of names within each.

    Raises:
        UserError: No file fits a pattern.
    """
    files = sorted(listing.files)
    found: dict[str, None] = {}
    for pattern in patterns:
        fitting = [name for name in files if fnmatchcase(name, pattern)]
        if not fitting:
            raise UserError(_nothing_fits(files, pattern, repo))
        found |= dict.fromkeys(fitting)
    return [*found]


def _nothing_fits(files: list[str], pattern: str, repo: HubRepo) -> str:
    parquet = [name for name in files if name.endswith(".parquet")]
    script = f"{repo.name.split('/')[-1]}.py"
    if script in files and not parquet:
        return (
            f"{repo}: holds a script that makes the data ({script}) and no Parquet files, and "
            "code from the hub is never run; set `revision: refs/convert/parquet`, where the "
            "hub keeps a converted copy, and `files` to what is there"
        )
    return (
        f"{repo}: no file fits {pattern!r}; there are: {shown(parquet or files)}; "
        "correct `files` of the block"
    )


def _source(
    settings: HubSettings, labels: "_Labels | None", commit: str, total: int | None, rows: Rows
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
    )


@dataclass(frozen=True)
class _Labels:
    """Names of the classes, and the class of each value of the label column."""

    classes: tuple[str, ...]
    class_of: dict


def _labels(
    settings: HubSettings,
    repo: HubRepo,
    columns: Columns,
    schema: pa.Schema,
    files: ParquetFiles | None,
) -> _Labels | None:
    """Find the classes; None: unlabeled.

    Text is its own name, found by a search of downloaded files, or in `classes` of a stream.
    """
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
            f"{repo}: the labels in {columns.label!r} have no names; set `{key}` of the block to "
            f"them, as the dataset's page lists them: {repo.page}"
        )
    if settings.classes is None:
        return _Labels(tuple(names), {value: i for i, value in enumerate(values)})
    of_label = class_indices(repo, names, settings.classes)
    class_of = {value: of_label[label] for label, value in enumerate(values)}
    return _Labels(class_names(settings.classes), class_of)
