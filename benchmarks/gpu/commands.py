"""Parts that are commands of their own: the tests that need a GPU, and `benchmarks.train`."""

import subprocess
import sys
from pathlib import Path

from benchmarks.gpu.session import Session

ROOT = Path(__file__).parents[2]
TESTS_LIMIT = 180  # seconds
LOADER_LIMIT = 120  # seconds, also beyond the deadline


def run_tests(session: Session) -> None:
    """Run the tests marked `gpu`, and record pytest's last line.

    Raises:
        RuntimeError: Some fail, or they take too long.
    """
    *_, last = _lines(session, "tests", TESTS_LIMIT, "pytest", "-q", "-m", "gpu", "tests/gpu")
    session.record("tests", result=last)


def run_loader(session: Session) -> None:
    """Compare the training of nano, with its loader, with a bare loop over ready tensors.

    Raises:
        RuntimeError: The benchmark fails, or takes too long.
    """
    small = ("--images", "128", "--steps", "20", "--rounds", "1")
    options = small if session.is_rehearsal else ("--steps", "1000", "--rounds", "2")
    command = ("benchmarks.train", "--model", "nano", "--device", session.device.type, *options)
    for line in _lines(session, "loader", max(LOADER_LIMIT, session.seconds_left), *command):
        session.record("loader", result=line)


def _lines(session: Session, name: str, limit: float, *command: str) -> list[str]:
    """Run a Python module; returns the lines that it prints, which a file gets, too.

    Raises:
        RuntimeError: It fails, or takes longer than `limit` seconds.
    """
    printed, errors = (session.folder / f"{name}.{kind}" for kind in ("out", "err"))
    with open(printed, "w") as stdout, open(errors, "w") as stderr:
        try:
            done = subprocess.run(
                [sys.executable, "-m", *command],
                cwd=ROOT,
                stdout=stdout,
                stderr=stderr,
                timeout=limit,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise RuntimeError(f"not done after {limit:.0f} s; see {printed}, {errors}") from None
    if done.returncode:
        raise RuntimeError(f"exit code {done.returncode}; see {printed}, {errors}")
    return printed.read_text().splitlines()
