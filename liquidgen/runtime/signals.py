"""Stopping in an orderly way on SIGTERM, SIGINT or the death of the parent process."""

import ctypes
import os
import signal
import sys

INTERRUPTED = 130  # exit code of an interrupted process, as in shells
PR_SET_PDEATHSIG = 1  # of Linux's sys/prctl.h
PR_GET_PDEATHSIG = 2


class Interrupted(Exception):
    """Raised by `Interrupt.check` in a process that was asked to stop."""


class Interrupt:
    """Context manager that turns SIGTERM, SIGINT and the parent's death into a flag.

    A loop reads the flag where it can stop cleanly. For the main thread only, because Python
    handles signals nowhere else.

    Attributes:
        requested: Whether this process was asked to stop.
    """

    def __init__(self) -> None:
        self.requested = False

    def __enter__(self) -> "Interrupt":
        numbers = (signal.SIGTERM, signal.SIGINT)
        self._handlers_before = {number: signal.signal(number, self._handle) for number in numbers}
        # a killed `dvc repro` would leave its stage running beside the next one
        parent = os.getppid()
        self._death_signal_before = set_parent_death_signal(signal.SIGTERM)
        if os.getppid() != parent:  # the parent died before the kernel was asked
            self.requested = True
        return self

    def __exit__(self, *error: object) -> None:
        set_parent_death_signal(self._death_signal_before)
        for number, handler in self._handlers_before.items():
            signal.signal(number, handler)

    def check(self) -> None:
        """Raise Interrupted if this process was asked to stop."""
        if self.requested:
            raise Interrupted

    def _handle(self, number: int, frame: object) -> None:
        self.requested = True


def dvc_has_died() -> bool:
    """Return whether the DVC process that started this stage is gone: its parent is another then.

    The new parent (init, a service manager) is in another session than DVC and its stage.
    """
    return "DVC_STAGE" in os.environ and os.getsid(os.getppid()) != os.getsid(0)


def set_parent_death_signal(number: int) -> int:
    """Ask the kernel to send this process a signal when its parent dies (Linux only).

    Args:
        number: The signal; 0 for none.

    Returns:
        The signal that was set before.
    """
    before = ctypes.c_int(0)
    if sys.platform == "linux":
        libc = ctypes.CDLL(None)
        libc.prctl(PR_GET_PDEATHSIG, ctypes.byref(before))
        libc.prctl(PR_SET_PDEATHSIG, number)
    return before.value
