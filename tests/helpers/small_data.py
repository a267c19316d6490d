"""Small datasets: their blocks, the sources that open them, and their latents."""

import io
from pathlib import Path

from PIL import Image

from helpers.checkout import encoded
from liquidgen.config.settings import (
    DatasetSettings,
    DownloadSettings,
    FolderSettings,
    ParquetSettings,
    ProceduralSettings,
)
from liquidgen.images.raw import Record
from liquidgen.stages.download.download import download
from liquidgen.stages.download.procedural import draw
from liquidgen.stages.download.sources import SOURCES
from liquidgen.stages.download.sources.base import Source

SETTINGS = DownloadSettings(max_file_mb=256, max_image_mb=256, split_seed=0)


def png(seed: int) -> bytes:
    """A small picture."""
    return png_of(draw("marble", 16, seed))


def png_of(image: Image.Image) -> bytes:
    """An image as a PNG file."""
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def procedural(**changes: object) -> ProceduralSettings:
    """A block of kind `procedural`."""
    settings = {"num_images": 30, "render_size": 16, "seed": 0, "holdout_fraction": 0.1}
    return ProceduralSettings(kind="procedural", license="CC0-1.0", **{**settings, **changes})


def folder(path: Path, **changes: object) -> FolderSettings:
    """A block of kind `folder`."""
    settings = {"labels": "folders", "max_images": None, "holdout_fraction": 0.1, "license": "own"}
    return FolderSettings(kind="folder", path=str(path), **{**settings, **changes})


def parquet(path: Path, **changes: object) -> ParquetSettings:
    """A block of kind `parquet`."""
    settings = {
        "image_column": "image",
        "label_column": "label",
        "max_images": None,
        "classes": None,
    }
    settings |= {"holdout_fraction": 0.1, "license": "own"}
    return ParquetSettings(kind="parquet", path=str(path), **{**settings, **changes})


def painted(folder: Path, **changes: object) -> Path:
    """Draw a dataset of kind `procedural` into a raw folder; returns the folder."""
    download(procedural(**changes), SETTINGS, folder, num_workers=0)
    return folder


def prepared(folder: Path, dataset: DatasetSettings, side: int) -> Path:
    """Download a dataset into `raw` of a folder, and encode it into `latents`; returns it."""
    download(dataset, SETTINGS, folder / "raw", num_workers=0)
    encoded(folder / "raw", folder / "latents", side)
    return folder


def opened(
    settings: FolderSettings | ParquetSettings | ProceduralSettings,
    num_workers: int = 0,
    download: DownloadSettings = SETTINGS,
) -> tuple[Source, list[Record]]:
    """The source, and its records."""
    source = SOURCES[settings.kind](settings, download, num_workers)
    return source, list(source.records)


def fill(root: Path, names: list[str]) -> None:
    """Write a picture of its own at each path."""
    for i, name in enumerate(names):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(i))
