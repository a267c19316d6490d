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
        RuntimeError: Some fail, or they take too long.
    """
    command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "tests/gpu"]
    path = session.folder / "tests.txt"
    with open(path, "w") as file:
        try:
            code = subprocess.run(
                command, cwd=ROOT, stdout=file, stderr=file, timeout=LIMIT, check=False
            ).returncode
        except subprocess.TimeoutExpired:
            raise RuntimeError(f"not done after {LIMIT} s; {path.name} has the output") from None
    *_, last = path.read_text().splitlines() or [""]
    session.record("tests", result=last)
    if code:
        raise RuntimeError(f"pytest exited with {code}; {path.name} has its output")
