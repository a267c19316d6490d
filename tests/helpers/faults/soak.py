"""A checkout in which something happens again and again: an edit, a kill, or damage."""

import json
import random
import re
import time
from collections import Counter
from pathlib import Path

from helpers.checkout import Checkout
from helpers.damage import flip_a_bit
from helpers.faults.campaign import SIGNALS, VICTIMS, needs_repair
from helpers.faults.kills import Fault, KillInWrite, SignalAtTime, run_repro
from helpers.faults.outcome import NOT_REPRODUCIBLE

EDITS = {
    "sample__seed": (0, 1, 2),
    "sample__guidance_scale": (1.5, 3.0),
    "train__num_epochs": (1, 2, 3),
    "train__seed": (0, 1),
    "encode__flip": (False, True),
    "datasets__procedural__num_images": (200, 220),
}
STAGES = ("download", "encode", "train", "sample", "evaluate")
DAMAGED = ("data", "metrics", "work")
REMEDY = re.compile(r"`((?:dvc|liquidgen) [^`]+)`")
TRIES = 6  # of `dvc repro` after one event


class Soak:
    """Random events in a checkout; after each one `dvc repro` has to succeed.

    What an error names as its remedy is run, and nothing else.
    """

    def __init__(self, checkout: Checkout, seed: int) -> None:
        self.checkout = checkout
        self.random = random.Random(seed)
        self.events: Counter[str] = Counter()

    def run(self, minutes: float) -> None:
        """Let events happen for so long."""
        end = time.monotonic() + 60 * minutes
        while time.monotonic() < end:
            event = self.random.choice([self.edit, self.kill, self.damage])
            label = event()
            self.events[label.partition(":")[0]] += 1
            print(f"{self.events.total():4} {label}", flush=True)
            self.recover()
        self.repair_findings()

    def edit(self) -> str:
        """Change a setting."""
        key = self.random.choice(list(EDITS))
        value = self.random.choice(EDITS[key])
        self.checkout.change(**{key: value})
        return f"edit: {key.replace('__', '.')}={value}"

    def kill(self) -> str:
        """Change a setting, and kill `dvc repro` at some moment."""
        label = self.edit()
        fault: Fault = SignalAtTime(
            self.random.uniform(0.3, 20),
            self.random.choice(SIGNALS),
            self.random.choice(VICTIMS),
        )
        if self.random.random() < 0.5:
            stage = self.random.choice(STAGES)
            fault = KillInWrite(stage, 1, "before rename", ("dvc", "stage"), ".*.tmp")
        self.repair_locks()
        code, _ = run_repro(self.checkout, fault)
        return f"kill{' (it was finished)' if code == 0 else ''}: {label}, {fault}"

    def damage(self) -> str:
        """Flip a bit, as rot does: size and time stay; or cut or delete a file."""
        folders = [self.checkout.root / name for name in DAMAGED]
        files = sorted(path for folder in folders for path in folder.rglob("*") if path.is_file())
        path = self.random.choice([path for path in files if path.stat().st_size])
        kind = self.random.choice(["flip", "cut", "delete"])
        if kind == "delete":
            path.unlink()
        elif kind == "cut":
            data = path.read_bytes()
            path.unlink()  # not through a link into the cache
            path.write_bytes(data[: self.random.randrange(len(data))])
        else:
            flip_a_bit(path, self.random.random())
        self.edit()  # or DVC would have nothing to do
        return f"{kind}: {path.relative_to(self.checkout.root)}"

    def recover(self) -> None:
        """Run `dvc repro`, and the remedies of its errors, until it succeeds."""
        for _ in range(TRIES):
            self.repair_locks()
            code, output = run_repro(self.checkout, None)
            if code == 0:
                return
            lines = [line for line in output.splitlines() if line.lower().startswith("error: ")]
            assert lines, output
            line = lines[0]
            print(f"     {line}", flush=True)
            self.apply_remedy(line)
        raise AssertionError(f"no success after {TRIES} tries: {line}")

    def repair_locks(self) -> None:
        """Run `liquidgen repair` where files of DVC itself are damaged."""
        if needs_repair(self.checkout.root):
            self.checkout.run("python", "-m", "liquidgen", "repair", check=True)

    def repair_findings(self) -> None:
        """Let `liquidgen doctor` look at everything, run its remedies, and repeat `dvc repro`."""
        for _ in range(TRIES):
            done = self.checkout.run("python", "-m", "liquidgen", "doctor")
            if done.returncode == 0:
                return
            print(f"     {done.stdout}{done.stderr}", flush=True)
            self.apply_remedy(done.stdout + done.stderr)
            self.recover()
        raise AssertionError(f"doctor still finds: {done.stdout}{done.stderr}")

    def apply_remedy(self, message: str) -> None:
        """Run the commands that a message names, in order; without one there is nothing to run."""
        for command in REMEDY.findall(message):
            self.checkout.run(*command.split())


def results(root: Path) -> dict[str, object]:
    """Return the reproducible content of all outputs, by path."""
    contents: dict[str, object] = {}
    for folder in ("data", "metrics"):
        for path in sorted((root / folder).rglob("*")):
            if path.is_file() and path.name not in ("run.json", "README.md"):
                contents[str(path.relative_to(root))] = path.read_bytes()
    scores = json.loads(contents["metrics/train.json"])
    contents["metrics/train.json"] = {
        name: value for name, value in scores.items() if name not in NOT_REPRODUCIBLE
    }
    return contents
