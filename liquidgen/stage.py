"""Runs a stage: reads params.yaml, and turns what the user can mend into one line."""

import errno
import logging
import sys
from collections.abc import Callable
from pathlib import Path

from liquidgen.config import Params, load_params, project_root
from liquidgen.errors import UserError


def run_stage(main: Callable[[Params, Path], str]) -> None:
    """Call `main(params, root)` and print its closing line; exits with 1 on the user's mistakes."""
    logging.basicConfig(format="%(levelname)s: %(message)s", level=logging.WARNING)
    try:
        print(main(load_params(), project_root()), flush=True)
    except UserError as error:
        sys.exit(f"error: {error}")
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        where = f" at {error.filename}" if error.filename else ""
        sys.exit(
            f"error: no space left on the disk{where}; free some, then run `dvc repro` again: "
            "earlier outputs are safe in DVC's cache (`dvc checkout` brings them back)"
        )
