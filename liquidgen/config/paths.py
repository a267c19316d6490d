"""Folder of the checkout, and paths that users write in params.yaml."""

import os
from pathlib import Path

from liquidgen.config.settings import AutoencoderSettings


def project_root() -> Path:
    """Return the real checkout, also from a temporary copy that `dvc exp run --temp` makes."""
    here = str(Path.cwd())
    return Path(here.split("/.dvc/tmp/exps/")[0])


def own_path(path: str) -> Path:
    """Resolve a `path` of params.yaml: relative to the real checkout, to `~`, or absolute."""
    return project_root() / os.path.expanduser(path)


def absolute(autoencoder: AutoencoderSettings) -> AutoencoderSettings:
    """Return settings of an autoencoder whose folder a process in another folder finds."""
    if autoencoder.path is None or autoencoder.path.startswith("hf://"):
        return autoencoder
    return autoencoder.model_copy(update={"path": str(own_path(autoencoder.path).absolute())})
