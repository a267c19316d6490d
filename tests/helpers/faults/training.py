"""Runs `dvc repro train` and reads its output and files."""

import re
from pathlib import Path
from typing import Any

from helpers.checkout import Checkout
from helpers.faults.kills import run_repro
from liquidgen.stages.train.checkpoint import checkpoints

FORCE_TRAIN = ("--force", "--single-item", "train")  # arguments of `dvc repro`
WITHOUT_DVC = ("python", "-m", "stages.train")
BATCH_SIZE = 32  # images, as in helpers.checkout.SMALL
LAST_STEP = 15  # of the fixture `finished`


def state_folder(checkout: Checkout) -> Path:
    """Return the only folder with checkpoints."""
    (folder,) = [path for path in (checkout.root / "work/train").iterdir() if checkpoints(path)]
    return folder


def weights(checkout: Checkout) -> bytes:
    """Return the content of the model's weights file."""
    (path,) = (checkout.root / "data/models").rglob("*.safetensors")
    return path.read_bytes()


def checkpoint_contents(folder: Path) -> dict[str, bytes]:
    """Return the content of all checkpoints in a folder, by file name."""
    return {path.name: path.read_bytes() for path in folder.glob("step-*")}


def train(checkout: Checkout, *arguments: str) -> str:
    """Run `dvc repro`, assert that it succeeds, and return its output."""
    code, output = run_repro(checkout, None, *arguments)
    assert code == 0, output
    return output


def error_line(code: int, output: str) -> str:
    """Return the only error line of a failed training; asserts that there is no traceback."""
    assert code != 0, output
    assert "Traceback" not in output
    (line,) = [line for line in output.splitlines() if line.startswith("error: ")]
    return line


def run_failing(checkout: Checkout, *command: str, **options: Any) -> str:
    """Run a command that must fail, and return its error line."""
    done = checkout.run(*command, **options)
    return error_line(done.returncode, done.stdout + done.stderr)


def first_step(output: str) -> int:
    """Return the step at which an unfinished training started, which its bar and a line show."""
    step = int(re.search(r"train: .*?\| (\d+)/\d+ \[", output)[1]) // BATCH_SIZE
    assert (f"train: continues after step {step:,}\n" in output) == (step > 0)
    return step
