"""A stage ends when DVC or the launcher that started it dies."""

import ctypes
import os
import signal
import sys

from liquidgen.runtime.launch import is_worker

PR_SET_PDEATHSIG = 1  # of Linux's sys/prctl.h


def end_with_parent() -> None:
    """Ask the kernel for SIGTERM when DVC or the launcher dies, if one of them is the parent.

    A killed `dvc repro` would leave its stage running beside the next one. Any other parent, such
    as a shell, may end before its children do.
    """
    is_of_dvc = "DVC_STAGE" in os.environ
    if sys.platform != "linux" or not (is_of_dvc or is_worker()):
        return
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    # if DVC died before the kernel was asked, the parent is init or a service manager, which is in
    # another session than DVC and its stage
    if not is_worker() and os.getsid(os.getppid()) != os.getsid(0):
        sys.exit("stopped: the `dvc repro` that started this stage is gone")
