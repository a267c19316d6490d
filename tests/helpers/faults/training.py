"""A `dvc repro` of the training: how it went, and what it left."""

import re
from pathlib import Path
from typing import Any

from helpers.checkout import Checkout
from helpers.faults.kills import struck
from liquidgen.stages.train.checkpoint import checkpoints

ANEW = ("--force", "--single-item", "train")
BARE = ("python", "-m", "stages.train")
STEPS = 15  # of the training of `finished`


def state_of(checkout: Checkout) -> Path:
    """The one folder of checkpoints."""
    (folder,) = [path for path in (checkout.root / "work/train").iterdir() if checkpoints(path)]
    return folder


def weights(checkout: Checkout) -> bytes:
    """The model's file."""
    (path,) = (checkout.root / "data/models").rglob("*.safetensors")
    return path.read_bytes()


def contents(folder: Path) -> dict[str, bytes]:
    """The checkpoints in a folder."""
    return {path.name: path.read_bytes() for path in folder.glob("step-*")}


def train(checkout: Checkout, *arguments: str) -> str:
    """What a `dvc repro` said that ended well."""
    code, said = struck(checkout, None, *arguments)
    assert code == 0, said
    return said


def refusal(code: int, said: str) -> str:
    """The one line of a training that could not be."""
    assert code != 0, said
    assert "Traceback" not in said
    (line,) = [line for line in said.splitlines() if line.startswith("error: ")]
    return line


def refused(checkout: Checkout, *command: str, **options: Any) -> str:
    """The one line of a command that could not train."""
    done = checkout.run(*command, **options)
    return refusal(done.returncode, done.stdout + done.stderr)


def beginning(said: str) -> int:
    """The step at which a training began, by its bar."""
    return int(re.search(r"train: .*?\| (\d+)/\d+ \[", said)[1]) // 32
