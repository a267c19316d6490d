"""Encodes parts on the nodes of a cluster; this node reads the raw images and stores the parts."""

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from tqdm.auto import tqdm

from liquidgen.cluster.connection import Cluster
from liquidgen.cluster.mapping import Ask, map_on_cluster
from liquidgen.config.paths import absolute
from liquidgen.images.raw import Group, LoadedGroup
from liquidgen.stages.encode.part_encoder import Encoded, PartEncoder, Recipe, missing_parts
from liquidgen.stages.encode.parts import Part, PartStore


def encode_on_cluster(
    cluster: Cluster, parts: list[Part], store: PartStore, recipe: Recipe, progress: tqdm
) -> None:
    """Encode the parts that a store lacks.

    Args:
        cluster: The cluster.
        parts: All parts.
        store: Where finished parts are saved.
        recipe: How to encode them.
        progress: Counts images, those of finished parts included.

    Raises:
        UserError: A node has other weights of the autoencoder, or the cluster failed.
    """
    missing = [_absolute(part) for part in missing_parts(parts, store, progress)]
    if not missing:
        return
    # on a CPU one worker per core is as fast as threads, and finds room on any node
    num_cpus = max(1, recipe.num_workers) if recipe.device == "cuda" else 1
    create = partial(_Worker, replace(recipe, autoencoder=absolute(recipe.autoencoder)))
    files = cluster.start_actor(_Files, store.absolute())
    for part in map_on_cluster(cluster, missing, files, create, num_cpus=num_cpus):
        progress.update(part.images)


def _absolute(part: Part) -> Part:
    """Return a part with absolute paths: another process reads it, in another folder."""
    groups = (replace(group, path=str(Path(group.path).absolute())) for group in part.groups)
    return replace(part, groups=tuple(groups))


@dataclass(frozen=True)
class _Files:
    """Actor on this node: reads row groups, and stores parts."""

    parts: PartStore

    def read(self, group: Group) -> LoadedGroup:
        return LoadedGroup(group.start, group.read())

    def store(self, part: Part, encoded: Encoded) -> None:
        self.parts.save(part, *encoded)


class _Worker:
    """Encodes parts in a process of the cluster, for as long as that lives."""

    def __init__(self, recipe: Recipe) -> None:
        self._encoder = PartEncoder(recipe).__enter__()

    def __call__(self, part: Part, ask: Ask) -> Encoded:
        return self._encoder.encode_part(part, ask(part.groups))
