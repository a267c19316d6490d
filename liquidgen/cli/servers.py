"""Servers that a command runs beside itself until Ctrl-C: a free port, the start, the end."""

import contextlib
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

from liquidgen.runtime.signals import interrupt_on_termination, termination_signals
from liquidgen.utils.errors import UserError

START_TIMEOUT = 120.0  # seconds; MLflow takes 10 to 30
STOP_TIMEOUT = 20.0  # seconds until a server that does not end is killed


def free_port(preferred: int) -> int:
    """Return a port of this machine, or any free one, and say so, if it is in use."""
    for port in (preferred, 0):
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            found = probe.getsockname()[1]
            if found != preferred:
                print(f"port {preferred} is in use, using {found} instead")
            return found
    raise UserError("no free port on 127.0.0.1")


@contextlib.contextmanager
def started(
    command: Sequence[str], *, folder: Path, environment: Mapping[str, str], log: BinaryIO
) -> Iterator[subprocess.Popen]:
    """Start a server, which ends with the block, whatever ends that: an error, Ctrl-C or a signal.

    Args:
        command: The command.
        folder: Its working folder.
        environment: Its environment.
        log: File that gets what it prints.
    """
    interrupt_on_termination()
    with subprocess.Popen(
        command, cwd=folder, env=environment, stdout=log, stderr=subprocess.STDOUT
    ) as server:
        try:
            yield server
        finally:
            # a second Ctrl-C must not leave the server running
            for number in (signal.SIGINT, *termination_signals()):
                signal.signal(number, signal.SIG_IGN)
            server.terminate()
            try:
                server.wait(STOP_TIMEOUT)
            except subprocess.TimeoutExpired:
                server.kill()


def wait_until_up(server: subprocess.Popen, host: str, port: int, log: Path) -> None:
    """Wait until a server listens.

    Raises:
        UserError: It ends instead, or takes too long.
    """
    deadline = time.monotonic() + START_TIMEOUT
    while server.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            socket.create_connection((host, port), timeout=2).close()
            return
        time.sleep(0.3)
    raise UserError(f"MLflow's server did not start; the reason is in {log}")
