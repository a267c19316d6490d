"""Checkpoints on disk: safetensors files with their own digest in their names."""

import json
import logging
import re
from collections.abc import Callable
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from liquidgen.compute.distributed import Content
from liquidgen.utils.files import atomic, file_sha256, sha256

logger = logging.getLogger(__name__)

NAME = re.compile(r"^step-(\d{9})-([0-9a-f]{16})\.safetensors$")
STATE_KEY = "facts"  # of the file's metadata; part of the file format
# of content that is no checkpoint, although its digest is right
UNFIT = (SafetensorError, LookupError, TypeError, ValueError, AttributeError, RecursionError)


def save_checkpoint(folder: Path, step: int, tensors: dict[str, Tensor], state: dict) -> Path:
    """Write one checkpoint durably; it replaces another one of the same step.

    Args:
        folder: Folder of the checkpoints.
        step: Optimizer steps done.
        tensors: Tensors by name.
        state: Everything else, as JSON can hold it.

    Returns:
        Path of the file.
    """
    data = save(tensors, metadata={STATE_KEY: json.dumps(state)})
    path = folder / f"step-{step:09d}-{sha256(data)[:16]}.safetensors"
    with atomic(path) as file:
        file.write(data)
    for other in folder.glob(f"step-{step:09d}-*.safetensors"):
        if other != path:  # a training of another length had other things to log at this step
            other.unlink()
    return path


def load_checkpoint(
    folder: Path, last_step: int, check: Callable[[int, Content], None] = lambda step, content: None
) -> Content | None:
    """Load the newest intact checkpoint in a folder at or before `last_step`.

    See `load_newest`.
    """
    return load_newest([found for found in checkpoints(folder) if found[0] <= last_step], check)


def load_newest(
    eligible: list[tuple[int, Path]], check: Callable[[int, Content], None]
) -> Content | None:
    """Load the newest intact checkpoint of several.

    A damaged checkpoint is skipped with a warning that names the step to continue from.

    Args:
        eligible: Steps and paths of the checkpoints, in order of steps.
        check: Raises one of `UNFIT` for content that cannot be continued from.

    Returns:
        Tensors and state, or None without such a checkpoint.
    """
    eligible = list(eligible)
    while eligible:
        step, path = eligible.pop()
        if file_sha256(path)[:16] == path.stem.rpartition("-")[2]:
            try:
                content = _read(path)
                check(step, content)
                return content
            except UNFIT:
                pass  # warned of below
        earlier_step = eligible[-1][0] if eligible else 0
        logger.warning("%s: damaged checkpoint, going back to step %d", path, earlier_step)
    return None


def _read(path: Path) -> Content:
    with safe_open(path, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        return tensors, json.loads(file.metadata()[STATE_KEY])


def checkpoints(folder: Path) -> list[tuple[int, Path]]:
    """List steps and paths of the checkpoints in a folder, in order of steps."""
    paths = (path for path in folder.glob("step-*.safetensors") if path.is_file())
    found = [(NAME.match(path.name), path) for path in paths]
    return sorted((int(match[1]), path) for match, path in found if match)


def prune_checkpoints(folder: Path, step: int, keep: int) -> None:
    """Delete all but the newest `keep` checkpoints up to `step`, and files of killed writers."""
    # later ones belong to a longer training with the same settings, which may still need them
    for _, path in [found for found in checkpoints(folder) if found[0] <= step][:-keep]:
        path.unlink()
    for path in folder.glob(".step-*.tmp"):
        path.unlink()
