"""Datasets of the Hugging Face hub: their Parquet files, downloaded or streamed; no code is run."""

from fnmatch import fnmatchcase
from typing import Any

import pyarrow as pa

from liquidgen.config.settings import DownloadSettings, HubSettings
from liquidgen.hub.download import Listing, cached, download, look_up
from liquidgen.hub.errors import RETRY_HINT
from liquidgen.hub.repository import HubRepo
from liquidgen.images.skipped import SkippedImages
from liquidgen.stages.download.sources.base import Source
from liquidgen.stages.download.sources.columns import INTEGERS, Columns
from liquidgen.stages.download.sources.labels import Labels, choose_classes, spellings
from liquidgen.stages.download.sources.parquet import ParquetFiles
from liquidgen.stages.download.sources.remote import RemoteParquet
from liquidgen.stages.download.sources.rows import Rows, records
from liquidgen.utils.errors import UserError
from liquidgen.utils.text import listed


def open_hub(settings: HubSettings, section: DownloadSettings, num_workers: int) -> Source:
    """Open a dataset of the hub; with `stream_buffer` its files are not downloaded.

    Raises:
        Unreachable: Neither the hub nor the cache has it.
        UserError: No such repository, revision, files or columns; no access; a limited rate.
    """
    repo = HubRepo("dataset", settings.repo, settings.revision)
    columns = Columns(settings.image_column, settings.label_column)
    max_bytes = section.max_image_mb * 1_000_000
    listing = look_up(repo)
    names = matching(listing, settings.files, repo)
    remote = RemoteParquet(repo, listing.commit, tuple(names), columns, max_bytes)
    if settings.stream_buffer is not None:
        schema = remote.schema()
        labels = _labels(settings, repo, columns, schema, None)
        total = settings.max_images
        rows = remote.shuffled(schema, settings.seed, settings.stream_buffer, settings.max_images)
    else:
        folder = cached(repo, listing.commit, names)
        if folder is None:
            remote.schema()  # report wrong columns before a long download
            folder = download(repo, listing.commit, names)
        paths = {f"{repo.name}: {name}": folder / name for name in names}
        remedy = f"remove it from the cache (`hf cache rm dataset/{repo.name}`), then {RETRY_HINT}"
        files = ParquetFiles.open(paths, columns, max_bytes, remedy)
        labels = _labels(settings, repo, columns, files.schema, files)
        total = min(files.count, settings.max_images or files.count)
        rows = files.rows(settings.max_images, settings.seed)
    return _source(settings, labels, listing.commit, total, rows, max_bytes)


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
        f"{repo}: no file fits {pattern!r}; there are: {listed(parquet or files, quotes=False)}; "
        "correct `files` of the block"
    )


def _source(
    settings: HubSettings,
    labels: Labels | None,
    commit: str,
    total: int | None,
    rows: Rows,
    max_bytes: int,
) -> Source:
    skipped = SkippedImages()
    return Source(
        classes=None if labels is None else labels.classes,
        license=settings.license,
        origin=f"{settings.repo} of the Hugging Face hub",
        revision=commit,
        total=total,
        records=records(rows, None if labels is None else labels.class_of, skipped, max_bytes),
        skipped=skipped,
        unlabeled="label_column: null",
    )


def _labels(
    settings: HubSettings,
    repo: HubRepo,
    columns: Columns,
    schema: pa.Schema,
    files: ParquetFiles | None,
) -> Labels | None:
    """Find the classes; None: unlabeled.

    Text is its own name, found by a search of downloaded files, or in `classes` of a stream.
    """
    if columns.label is None:
        return None
    numbers = columns.label_kind(schema) == INTEGERS
    if settings.label_names and not numbers:
        raise UserError(
            f"{repo}: label_names: the labels in {columns.label!r} are not numbers and need no "
            "names; set `label_names: null`"
        )
    names: dict[Any, str]
    used = None if files is None else files.label_values()
    if known := columns.label_names(schema) or settings.label_names:
        names = dict(enumerate(known))
    elif used is not None and not (numbers and settings.classes):
        names = {value: str(value) for value in sorted(used)}
    elif settings.classes and not numbers:
        names = {name: name for name in spellings(settings.classes)}
    else:
        key = "label_names" if numbers else "classes"
        raise UserError(
            f"{repo}: the labels in {columns.label!r} have no names; set `{key}` of the block to "
            f"them, as the dataset's page lists them: {repo.page}"
        )
    return choose_classes(repo, names, settings.classes, used)
