"""Many kills of one training, seeded, and the comparison with the training that nobody killed."""

import random
import shutil
import signal
from collections import Counter
from pathlib import Path

from helpers.checkout import Checkout
from helpers.faults.kills import MOMENTS, AtTime, InWrite, struck
from helpers.faults.outcome import outcome
from liquidgen.cli.repair import DVC_LOCK, RWLOCK, ProcessState, is_whole_lock, read_rwlock

SIGNALS = [signal.SIGKILL] * 3 + [signal.SIGTERM, signal.SIGINT]
VICTIMS = [("dvc",), ("stage",), ("dvc", "stage"), ("stage", "dvc"), ("group",)]
SETTINGS = {  # a save a step, a point a step: as many chances as possible to lose or double one
    "train__seed": 1,
    "train__checkpoint_every": 1e-9,
    "train__log_every": 1,
    "train__validate_every": 5,
}


def stumbles(root: Path) -> bool:
    """Whether a kill within DVC's own write, or a number used again, stops the next `dvc repro`."""
    try:
        states = read_rwlock(root / RWLOCK).values()
    except ValueError:
        return True
    return ProcessState.REUSED in states or not is_whole_lock(root / DVC_LOCK)


class Campaign:
    """A checkout in which `dvc repro train` is killed again and again.

    Where a training ends before the kills do, its end is compared, and it begins from nothing.
    """

    def __init__(self, checkout: Checkout, seed: int, num_epochs: int) -> None:
        self.checkout, self.random = checkout, random.Random(seed)
        checkout.change(**SETTINGS, train__num_epochs=num_epochs, train__preview_every=num_epochs)
        shutil.rmtree(checkout.root / "work/train")
        self.fresh = shutil.copytree(checkout.root, checkout.root.parent / "fresh", symlinks=True)
        checkout.repro("train")
        self.expected = outcome(checkout)
        self.kills: Counter[str] = Counter()
        self.begin_again()

    def begin_again(self) -> None:
        """The checkout as it was before the training."""
        shutil.rmtree(self.checkout.root)
        shutil.copytree(self.fresh, self.checkout.root, symlinks=True)

    def wage(self, kills: int) -> None:
        """Kill so often, each second time inside a save, and let the last training end."""
        while self.kills.total() < kills:
            fault = self.in_save() if self.kills.total() % 2 else self.at_time()
            code, said = self.repro(fault)
            if code == 0:  # it ended before it could be killed
                self.compare()
                self.begin_again()
                continue
            refused = [line for line in said.splitlines() if line.startswith("error: ")]
            assert not refused, f"after {self.kills}: {fault}: {said}"
            self.kills[fault.label] += 1
            print(self.kills.total(), fault, flush=True)
        code, said = self.repro(None)
        assert code == 0, said
        self.compare()

    def repro(self, fault: InWrite | AtTime | None) -> tuple[int, str]:
        """Train, with nothing cleared away but what DVC itself would stumble over."""
        if stumbles(self.checkout.root):
            repaired = self.checkout.run("python", "-m", "liquidgen", "repair", check=True)
            print(repaired.stderr, end="")
        return struck(self.checkout, fault, "train")

    def in_save(self) -> InWrite:
        """Some moment of one of the next saves."""
        moment, victims = self.random.choice(MOMENTS), self.random.choice(VICTIMS[:3])
        return InWrite("train", self.random.randint(1, 8), moment, victims)

    def at_time(self) -> AtTime:
        """Some moment between the start of DVC and a few seconds of training."""
        number, victims = self.random.choice(SIGNALS), self.random.choice(VICTIMS)
        return AtTime(self.random.uniform(0.3, 12), number, victims)

    def compare(self) -> None:
        """The training ended as if nobody had killed it."""
        found = outcome(self.checkout)
        differing = [key for key, value in self.expected.items() if found[key] != value]
        assert not differing, f"{differing} differ after {self.kills}"
