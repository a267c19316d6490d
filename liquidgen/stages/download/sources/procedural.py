"""Procedural paintings, spread evenly over the styles."""

import io
from collections.abc import Generator
from functools import partial

import numpy as np

from liquidgen.config.settings import DownloadSettings, ProceduralSettings
from liquidgen.images.raw import Record
from liquidgen.stages.download.procedural import STYLES, draw
from liquidgen.stages.download.sources.base import Source
from liquidgen.utils.workers import Processes

CHUNK = 32  # images per task of a worker
WORTHWHILE = 256  # images from which worker processes save more time than their start takes


def open_procedural(
    settings: ProceduralSettings, download: DownloadSettings, num_workers: int
) -> Source:
    """Draw `num_images` paintings: image i has style i modulo the number of styles."""
    classes = tuple(STYLES)
    return Source(
        classes=classes,
        license=settings.license,
        origin=f"drawn by liquidgen from seed {settings.seed}",
        revision=None,
        total=settings.num_images,
        records=_records(settings, num_workers if settings.num_images >= WORTHWHILE else 0),
    )


def _records(settings: ProceduralSettings, num_workers: int) -> Generator[Record, None, None]:
    total = settings.num_images
    chunks = (range(i, min(i + CHUNK, total)) for i in range(0, total, CHUNK))
    draw_chunk = partial(_draw_chunk, settings.seed, settings.render_size)
    with Processes(num_workers, warm=_warm) as workers:
        for records in workers.map(draw_chunk, chunks):
            yield from records


def _draw_chunk(seed: int, size: int, indices: range) -> list[Record]:
    return [_draw(seed, size, i) for i in indices]


def _draw(seed: int, size: int, i: int) -> Record:
    label = i % len(STYLES)
    style = list(STYLES)[label]
    own_seed = int(np.random.SeedSequence([seed, i]).generate_state(1, np.uint64)[0])
    file = io.BytesIO()
    draw(style, size, own_seed).save(file, "PNG")
    return Record(file.getvalue(), f"{style}/{i:07d}.png", label)


def _warm() -> None:
    """Do nothing: an import of this module is all that a worker needs."""
