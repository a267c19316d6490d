"""Many random kills of one training, and the comparison with an uninterrupted one."""

import random
import shutil
import signal
from collections import Counter
from pathlib import Path

from helpers.checkout import Checkout
from helpers.faults.kills import MOMENTS, Fault, KillInWrite, SignalAtTime, run_repro
from helpers.faults.outcome import read_outcome
from liquidgen.cli.health.repair import DVC_LOCK, RWLOCK, ProcessState, is_whole_lock, read_rwlock

SIGNALS = [signal.SIGKILL] * 3 + [signal.SIGTERM, signal.SIGINT]
VICTIMS = [("dvc",), ("stage",), ("dvc", "stage"), ("stage", "dvc"), ("group",)]
SETTINGS = {  # a checkpoint and a point per step: as many chances as possible to lose one
    "train__seed": 1,
    "train__checkpoint_every": 1e-9,
    "train__log_every": 1,
    "train__validate_every": 5,
}


def needs_repair(root: Path) -> bool:
    """Whether damaged files of DVC, or a reused process id, would stop the next `dvc repro`."""
    try:
        states = read_rwlock(root / RWLOCK).values()
    except ValueError:
        return True
    return ProcessState.REUSED in states or not is_whole_lock(root / DVC_LOCK)


class Campaign:
    """A checkout in which `dvc repro train` is killed again and again.

    A training that finishes before all kills are done is compared, and starts from scratch.
    """

    def __init__(self, checkout: Checkout, seed: int, num_epochs: int) -> None:
        self.checkout = checkout
        self.random = random.Random(seed)
        self.kills: Counter[str] = Counter()
        checkout.change(**SETTINGS, train__num_epochs=num_epochs, train__preview_every=num_epochs)
        shutil.rmtree(checkout.root / "work/train")
        self.untrained = checkout.root.parent / "untrained"
        shutil.copytree(checkout.root, self.untrained, symlinks=True)
        checkout.repro("train")
        self.expected = read_outcome(checkout)
        self.reset()

    def reset(self) -> None:
        """Restore the checkout as it was before the training."""
        shutil.rmtree(self.checkout.root)
        shutil.copytree(self.untrained, self.checkout.root, symlinks=True)

    def run(self, kills: int) -> None:
        """Kill so many times, every second time inside a save; then let the training finish."""
        while self.kills.total() < kills:
            fault = self.random_kill() if self.kills.total() % 2 else self.random_signal()
            code, output = self.repro(fault)
            if code == 0:  # it finished before the fault
                self.assert_expected_outcome()
                self.reset()
                continue
            errors = [line for line in output.splitlines() if line.startswith("error: ")]
            assert not errors, f"after {self.kills}: {fault}: {output}"
            self.kills[fault.label] += 1
            print(self.kills.total(), fault, flush=True)
        code, output = self.repro(None)
        assert code == 0, output
        self.assert_expected_outcome()

    def repro(self, fault: Fault | None) -> tuple[int, str]:
        """Train; repair nothing but what stops DVC itself."""
        if needs_repair(self.checkout.root):
            done = self.checkout.run("python", "-m", "liquidgen", "repair", check=True)
            print(done.stderr, end="")
        return run_repro(self.checkout, fault, "train")

    def random_kill(self) -> KillInWrite:
        """Return a kill at some moment of one of the next saves."""
        moment = self.random.choice(MOMENTS)
        victims = self.random.choice(VICTIMS[:3])
        return KillInWrite("train", self.random.randint(1, 8), moment, victims)

    def random_signal(self) -> SignalAtTime:
        """Return a signal between the start of DVC and a few seconds of training."""
        number = self.random.choice(SIGNALS)
        victims = self.random.choice(VICTIMS)
        return SignalAtTime(self.random.uniform(0.3, 12), number, victims)

    def assert_expected_outcome(self) -> None:
        """Assert that everything is as after an uninterrupted training."""
        found = read_outcome(self.checkout)
        differing = [key for key, value in self.expected.items() if found[key] != value]
        assert not differing, f"{differing} differ after {self.kills}"
