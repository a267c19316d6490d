"""Where the checkout is, and what the paths mean that users write in params.yaml."""

import os
from pathlib import Path


def project_root() -> Path:
    """The real checkout, also from the temporary copies that `dvc exp run --temp` makes."""
    here = str(Path.cwd())
    return Path(here.split("/.dvc/tmp/exps/")[0])


def own_path(path: str) -> Path:
    """The place of a `path` of params.yaml: relative to the real checkout, or below `~`."""
    return project_root() / os.path.expanduser(path)
