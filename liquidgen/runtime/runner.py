"""Runs a stage: loads params.yaml, calls the stage, prints user errors as one line."""

import errno
import logging
import sys
from collections.abc import Callable
from pathlib import Path

from liquidgen.config.params import Params, load_params
from liquidgen.config.paths import project_root
from liquidgen.runtime.extras import require_extra
from liquidgen.runtime.launch import is_worker, launch, wait_for_rank_zero
from liquidgen.runtime.signals import INTERRUPTED, interrupt_on_termination
from liquidgen.runtime.streams import make_output_lossy
from liquidgen.utils.errors import UserError
from liquidgen.utils.files import DISK_FULL
from liquidgen.utils.memory import memory_errors
from liquidgen.utils.text import one_line

# OSErrors that the user can fix
NO_PERMISSION = {errno.EACCES, errno.EPERM, errno.EROFS}
WRONG_FILE_TYPE = {errno.EEXIST, errno.ENOTDIR, errno.EISDIR}
OUTPUTS_ARE_SAFE = "earlier outputs are safe in DVC's cache (`dvc checkout` brings them back)"

MEMORY_ADVICE = (
    "close other programs, or lower this stage's batch_size, machine.num_workers or image_size; "
    "then run `dvc repro` again"
)


def run_stage(main: Callable[[Params, Path], str | None], *, distributed: bool = True) -> None:
    """Run the main function of a stage as the program of this process.

    Exits with 1 after an error of the user, printed as one line, and with `INTERRUPTED` after
    KeyboardInterrupt (whose message may say how far the stage came), SIGTERM or SIGHUP. What cannot
    be written to stdout or stderr is dropped.

    Args:
        main: Called with the settings and the root of the checkout; returns the closing line to
            print, None on ranks > 0.
        distributed: Whether the stage runs in machine.num_processes processes.
    """
    make_output_lossy()
    # not in ranks: the launcher stops them, perhaps while they exit by themselves
    if not is_worker():
        interrupt_on_termination()  # so that the open MLflow run ends with status KILLED
    logging.basicConfig(format="%(levelname)s: %(message)s", level=logging.WARNING)
    try:
        params = load_params()
        require_extra("pipeline")
        is_local = params.machine.engine == "local"
        if distributed and is_local and params.machine.num_processes > 1 and not is_worker():
            sys.exit(launch(params.machine.num_processes))
        with memory_errors(MEMORY_ADVICE):
            line = main(params, project_root())
        if line:
            print(one_line(line), flush=True)
    except UserError as error:
        wait_for_rank_zero()
        sys.exit(f"error: {error}")
    except OSError as error:
        path = f" at {one_line(str(error.filename))}" if error.filename else ""
        if error.errno in DISK_FULL:
            notes = "".join(f" ({note})" for note in getattr(error, "__notes__", ()))
            sys.exit(
                f"error: no space left on the disk{path}{notes}; free some, then run `dvc repro` "
                f"again: {OUTPUTS_ARE_SAFE}"
            )
        if error.errno in NO_PERMISSION:
            sys.exit(
                f"error: no permission{path}; grant it, then run `dvc repro` again: "
                f"{OUTPUTS_ARE_SAFE}"
            )
        if error.errno in WRONG_FILE_TYPE:
            sys.exit(
                f"error: a file is where a folder should be, or the reverse{path}; move it away, "
                f"then run `dvc repro` again: {OUTPUTS_ARE_SAFE}"
            )
        raise
    except KeyboardInterrupt as stop:
        reason = str(stop) or "stopped"
        print(f"{reason}; `dvc repro` continues; {OUTPUTS_ARE_SAFE}", file=sys.stderr)
        sys.exit(INTERRUPTED)
