"""Sources of images: `SOURCES[kind](settings, num_workers)` opens the one of a dataset block.

A new kind is a function of the block and the number of worker processes that returns a `Source`,
and a line here.
"""

from collections.abc import Callable
from typing import Any

from liquidgen.stages.download.sources.base import Source
from liquidgen.stages.download.sources.folder import open_folder
from liquidgen.stages.download.sources.hub import open_hub
from liquidgen.stages.download.sources.parquet import open_parquet
from liquidgen.stages.download.sources.procedural import open_procedural

SOURCES: dict[str, Callable[[Any, int], Source]] = {  # each takes the blocks of its own kind
    "procedural": open_procedural,
    "folder": open_folder,
    "parquet": open_parquet,
    "hub": open_hub,
}
