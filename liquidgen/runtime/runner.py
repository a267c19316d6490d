"""Runs a stage: reads params.yaml, and turns what the user can mend into one line."""

import errno
import logging
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from liquidgen.config.params import Params, load_params, project_root
from liquidgen.runtime.extras import require_extra
from liquidgen.runtime.launch import is_worker, launch, wait_for_rank_zero
from liquidgen.runtime.signals import INTERRUPTED
from liquidgen.utils.errors import UserError

DISK_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
FORBIDDEN = {errno.EACCES, errno.EPERM, errno.EROFS}
IN_THE_WAY = {errno.EEXIST, errno.ENOTDIR, errno.EISDIR}
SAFE = "earlier outputs are safe in DVC's cache (`dvc checkout` brings them back)"


def run_stage(main: Callable[[Params, Path], str | None], *, several: bool = True) -> None:
    """Call `main(params, root)` and print its closing line; exits with 1 on the user's mistakes.

    KeyboardInterrupt, which may say how far the stage came, exits with INTERRUPTED, and so does
    SIGTERM to a stage of one process.

    With `several`, in machine.num_processes processes, of which the first has the closing line.
    """
    # workers are stopped by their launcher, perhaps while they end by themselves
    if not is_worker():
        # raises KeyboardInterrupt, so that the open run in MLflow is closed as stopped
        signal.signal(signal.SIGTERM, signal.default_int_handler)
    logging.basicConfig(format="%(levelname)s: %(message)s", level=logging.WARNING)
    try:
        params = load_params()
        require_extra("pipeline")
        if several and params.machine.num_processes > 1 and not is_worker():
            sys.exit(launch(params.machine.num_processes))
        if line := main(params, project_root()):
            print(line, flush=True)
    except UserError as error:
        wait_for_rank_zero()
        sys.exit(f"error: {error}")
    except OSError as error:
        where = f" at {error.filename}" if error.filename else ""
        if error.errno in DISK_FULL:
            sys.exit(
                f"error: no space left on the disk{where}; free some, then run `dvc repro` again: "
                f"{SAFE}"
            )
        if error.errno in FORBIDDEN:
            sys.exit(f"error: no permission{where}; allow it, then run `dvc repro` again: {SAFE}")
        if error.errno in IN_THE_WAY:
            sys.exit(
                f"error: a file is where a folder should be, or the reverse{where}; move it away, "
                f"then run `dvc repro` again: {SAFE}"
            )
        raise
    except KeyboardInterrupt as stop:
        print(f"{str(stop) or 'stopped'}; `dvc repro` goes on: {SAFE}", file=sys.stderr)
        sys.exit(INTERRUPTED)
