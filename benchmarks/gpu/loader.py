"""The training of nano, with its loader, against a bare loop over ready tensors."""

import subprocess
import sys

from benchmarks.gpu.marked_tests import ROOT
from benchmarks.gpu.session import Session

LEAST = 120  # seconds that it may take, also beyond the deadline


def run(session: Session) -> None:
    """Run `benchmarks.train`, and record its last lines.

    Raises:
        RuntimeError: It fails.
        subprocess.TimeoutExpired: It takes too long.
    """
    small = ("--images", "128", "--steps", "40", "--rounds", "1")
    options = small if session.is_rehearsal else ("--steps", "1000", "--rounds", "2")
    device = ("--device", session.device.type)
    command = [sys.executable, "-m", "benchmarks.train", "--model", "nano", *device, *options]
    limit = max(LEAST, session.seconds_left)
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=limit, check=False
    )
    (session.folder / "loader.txt").write_text(done.stdout + done.stderr)
    if done.returncode:
        raise RuntimeError(f"exited with {done.returncode}; loader.txt has its output")
    for line in done.stdout.splitlines():
        session.record("loader", result=line)
