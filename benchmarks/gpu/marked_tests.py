"""The tests that need a GPU."""

import subprocess
import sys
from pathlib import Path

from benchmarks.gpu.session import Session

ROOT = Path(__file__).parents[2]
LIMIT = 180  # seconds


def run(session: Session) -> None:
    """Run the tests marked `gpu`, and record pytest's last line.

    Raises:
        RuntimeError: Some fail.
    """
    command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "tests/gpu"]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=LIMIT, check=False
    )
    (session.folder / "tests.txt").write_text(done.stdout + done.stderr)
    *_, last = done.stdout.splitlines() or [""]
    session.record("tests", result=last)
    if done.returncode:
        raise RuntimeError(f"pytest exited with {done.returncode}; tests.txt has its output")
