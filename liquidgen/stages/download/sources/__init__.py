"""Sources of images: `SOURCES[kind](block, download, num_workers)` opens one.

A new kind is a function of the block, the section `download` and the number of worker processes
that returns a `Source`, and a line here.
"""

from collections.abc import Callable
from typing import Any

from liquidgen.config.settings import DownloadSettings
from liquidgen.stages.download.sources.base import Source
from liquidgen.stages.download.sources.folder import open_folder
from liquidgen.stages.download.sources.hub import open_hub
from liquidgen.stages.download.sources.parquet import open_parquet
from liquidgen.stages.download.sources.procedural import open_procedural

# each takes the blocks of its own kind
SOURCES: dict[str, Callable[[Any, DownloadSettings, int], Source]] = {
    "procedural": open_procedural,
    "folder": open_folder,
    "parquet": open_parquet,
    "hub": open_hub,
}
