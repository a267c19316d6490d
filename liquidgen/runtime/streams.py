"""Output that never stops the work: what cannot be written is dropped."""

import io
import os
import select
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from typing import Any, TextIO

PATIENCE_MS = 2000  # with a reader that stands still, such as `| less` at its first page


class _Lossy(io.FileIO):
    """A descriptor whose writes neither fail nor wait for long."""

    def __init__(self, number: int) -> None:
        super().__init__(number, "w", closefd=False)
        self._poll = select.poll()
        self._poll.register(number, select.POLLOUT)
        self._patience = PATIENCE_MS

    def write(self, data: Any) -> int:  # typing names buffers since Python 3.12
        if self._poll.poll(self._patience):
            self._patience = PATIENCE_MS
            # its reader is gone (`| less` and q), its terminal is closed, or its disk is full
            with suppress(OSError):
                if (written := super().write(data)) is not None:
                    return written
        else:
            self._patience = 0  # until there is room again
        return memoryview(data).nbytes


def lossy(stream: TextIO | None) -> TextIO:
    """Return a stream to the same descriptor that drops what cannot be written.

    Args:
        stream: sys.stdout or sys.stderr. Those of notebooks and tests are returned as they are.
            None, as Python has it for a closed descriptor, becomes /dev/null, so that no other
            file gets the number of the descriptor, to which libraries in C write.
    """
    if stream is None:
        return open(os.devnull, "w")
    if sys.platform == "win32" or not isinstance(stream, io.TextIOWrapper):
        return stream  # Windows has no poll
    try:
        number = stream.fileno()
    except OSError:
        return stream
    with suppress(OSError):
        stream.flush()
    return io.TextIOWrapper(
        io.BufferedWriter(_Lossy(number)),
        encoding=stream.encoding,
        errors=stream.errors,
        line_buffering=stream.line_buffering or stream.write_through,
    )


def make_output_lossy() -> None:
    """Make sys.stdout and sys.stderr of this process lossy, to its end."""
    sys.stdout = lossy(sys.stdout)
    sys.stderr = lossy(sys.stderr)


@contextmanager
def lossy_output() -> Iterator[None]:
    """Make sys.stdout and sys.stderr lossy within the context."""
    with redirect_stdout(lossy(sys.stdout)), redirect_stderr(lossy(sys.stderr)):
        yield
