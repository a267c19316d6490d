"""Training state on disk: safetensors files that carry their own digest in their name."""

import json
import logging
import re
from pathlib import Path

from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from liquidgen.utils.files import atomic, file_sha256, sha256

logger = logging.getLogger(__name__)

NAME = re.compile(r"^step-(\d{9})-([0-9a-f]{16})\.safetensors$")


def save_checkpoint(folder: Path, step: int, tensors: dict[str, Tensor], facts: dict) -> Path:
    """Write one checkpoint durably, in place of any of the same step; `facts` is JSON's."""
    data = save(tensors, metadata={"facts": json.dumps(facts)})
    path = folder / f"step-{step:09d}-{sha256(data)[:16]}.safetensors"
    with atomic(path) as file:
        file.write(data)
    for other in folder.glob(f"step-{step:09d}-*.safetensors"):
        if other != path:  # by a training of another length, which had no more to report here
            other.unlink()
    return path


def load_checkpoint(folder: Path, last_step: int) -> tuple[dict[str, Tensor], dict] | None:
    """Tensors and facts of the newest sound checkpoint at or before `last_step`, or None.

    A damaged one is passed over with a warning that names the step to go on from.
    """
    eligible = [found for found in checkpoints(folder) if found[0] <= last_step]
    while eligible:
        _, path = eligible.pop()
        if file_sha256(path)[:16] != NAME.match(path.name)[2]:
            before = eligible[-1][0] if eligible else 0
            logger.warning("%s: damaged checkpoint, going back to step %d", path, before)
            continue
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            return tensors, json.loads(file.metadata()["facts"])
    return None


def checkpoints(folder: Path) -> list[tuple[int, Path]]:
    """Steps and paths of the checkpoints in a folder, in order of steps."""
    found = [(NAME.match(path.name), path) for path in folder.glob("step-*.safetensors")]
    return sorted((int(match[1]), path) for match, path in found if match)


def prune_checkpoints(folder: Path, step: int, keep: int) -> None:
    """Delete all but the newest `keep` checkpoints up to `step`, and what killed writers left."""
    # later ones belong to a longer training of the same settings and are not ours to delete
    for _, path in [c for c in checkpoints(folder) if c[0] <= step][:-keep]:
        path.unlink()
    for path in folder.glob(".step-*.tmp"):
        path.unlink()
