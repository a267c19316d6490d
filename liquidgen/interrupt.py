"""Ends work in an orderly way when it is asked to stop, or when its parent dies."""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


class Interrupt:
    """Notes SIGTERM, SIGINT and the death of the parent process, for a loop to look at."""

    def __init__(self) -> None:
        self.requested = False
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._note)
        if sys.platform == "linux":
            # a killed `dvc repro` would leave its stage running beside the next one
            parent = os.getppid()
            ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
            if os.getppid() != parent:  # it died before the kernel was asked
                self.requested = True

    def _note(self, number: int, frame: object) -> None:
        self.requested = True
