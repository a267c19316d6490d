"""Ends work in an orderly way when it is asked to stop, or when its parent dies."""

import ctypes
import os
import signal
import sys

INTERRUPTED = 130  # exit code, as shells have it
PR_SET_PDEATHSIG, PR_GET_PDEATHSIG = 1, 2


class Interrupted(Exception):
    """Work was left because it was asked to stop."""


class Interrupt:
    """Notes SIGTERM, SIGINT and the death of the parent process, for a loop to look at.

    Only within its context, and only in the main thread, where Python lets signals be handled.
    """

    def __init__(self) -> None:
        self.requested = False

    def __enter__(self) -> "Interrupt":
        numbers = (signal.SIGTERM, signal.SIGINT)
        self._before = {number: signal.signal(number, self._note) for number in numbers}
        # a killed `dvc repro` would leave its stage running beside the next one
        parent = os.getppid()
        self._at_parents_death = signal_at_parents_death(signal.SIGTERM)
        if os.getppid() != parent:  # it died before the kernel was asked
            self.requested = True
        return self

    def __exit__(self, *error: object) -> None:
        signal_at_parents_death(self._at_parents_death)
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def check(self) -> None:
        """Raise Interrupted if this process was asked to stop."""
        if self.requested:
            raise Interrupted

    def _note(self, number: int, frame: object) -> None:
        self.requested = True


def outlived_dvc() -> bool:
    """Whether the DVC that started this process is gone, so that another process adopted it.

    An adopting process (init, a service manager) is in another session than DVC and its stage.
    """
    return "DVC_STAGE" in os.environ and os.getsid(os.getppid()) != os.getsid(0)


def signal_at_parents_death(number: int) -> int:
    """Ask the kernel for a signal at the parent's death, 0 for none; what it was before."""
    before = ctypes.c_int(0)
    if sys.platform == "linux":
        libc = ctypes.CDLL(None)
        libc.prctl(PR_GET_PDEATHSIG, ctypes.byref(before))
        libc.prctl(PR_SET_PDEATHSIG, number)
    return before.value
