"""Stopping in an orderly way on SIGTERM, SIGINT or SIGHUP."""

import signal
import sys
import threading

INTERRUPTED = 130  # exit code of an interrupted process, as in shells


class Interrupted(Exception):
    """Raised by `Interrupt.check` in a process that was asked to stop."""


_ASKED = threading.Event()  # of `request_interrupt`


def request_interrupt() -> None:
    """Ask every `Interrupt` of this process to stop: for one whose signals another program has."""
    _ASKED.set()


class Interrupt:
    """Context manager that turns SIGTERM, SIGINT and SIGHUP into a flag.

    A loop reads the flag where it can stop cleanly. In any thread but the main one the signals stay
    as they are, because Python handles them nowhere else.
    """

    def __init__(self) -> None:
        self._signalled = False

    @property
    def requested(self) -> bool:
        """Whether this process was asked to stop."""
        return self._signalled or _ASKED.is_set()

    def __enter__(self) -> "Interrupt":
        in_main_thread = threading.current_thread() is threading.main_thread()
        numbers = (signal.SIGINT, *termination_signals()) if in_main_thread else ()
        self._handlers_before = {number: signal.signal(number, self._handle) for number in numbers}
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._handlers_before.items():
            signal.signal(number, handler)

    def check(self) -> None:
        """Raise Interrupted if this process was asked to stop."""
        if self.requested:
            raise Interrupted

    def _handle(self, number: int, frame: object) -> None:
        self._signalled = True


def termination_signals() -> list[signal.Signals]:
    """Return SIGTERM, and SIGHUP (a closed terminal) unless it is ignored, as under nohup."""
    if sys.platform == "win32" or signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        return [signal.SIGTERM]
    return [signal.SIGTERM, signal.SIGHUP]


def interrupt_on_termination() -> None:
    """Make SIGTERM and SIGHUP raise KeyboardInterrupt in the main thread.

    Only the first one does: a closed terminal sends SIGHUP, and the end of DVC then SIGTERM, which
    must not disturb the cleaning up.
    """
    numbers = termination_signals()

    def stop(number: int, frame: object) -> None:
        for other in numbers:
            signal.signal(other, signal.SIG_IGN)
        raise KeyboardInterrupt

    for number in numbers:
        signal.signal(number, stop)
