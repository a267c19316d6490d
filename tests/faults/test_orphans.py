"""DVC alone is killed: its stage ends soon, also while it still starts."""

import os
import signal
import time

import psutil
import pytest
from helpers.checkout import Checkout
from helpers.faults.kills import stage_of
from helpers.faults.training import state_of

from liquidgen.config.params import STAGES
from liquidgen.stages.train.checkpoint import checkpoints

SECONDS = 30  # in which a stage must end
LONG = {  # settings with which a stage takes minutes
    "download": {"datasets__procedural__num_images": 100_000},
    "encode": {"image_size": 1024, "encode__max_upscale": 16.0, "encode__batch_size": 1},
    "train": {"train__num_epochs": 100_000},
    "sample": {"sample__num_steps": 100_000},
    "evaluate": {"evaluate__kid_subsets": 10_000_000},
}


@pytest.mark.parametrize("late", [False, True], ids=["at its first step", "while it imports"])
@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_does_not_outlive_its_dvc(
    stage: str, late: bool, checkout: Checkout, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.delenv("SHELL", raising=False)  # DVC takes sh, which may stay between the two
    checkout.change(**LONG[stage])
    with checkout.start("dvc", "repro", "--force", "--single-item", stage) as dvc:
        while not (found := stage_of(dvc.pid)):
            time.sleep(0.01)
        if late:
            time.sleep(0.5)
        found.send_signal(signal.SIGSTOP)  # what it did not do so far comes after DVC's end
        os.kill(dvc.pid, signal.SIGKILL)
        dvc.wait()
        found.send_signal(signal.SIGCONT)
        psutil.wait_procs([found], timeout=SECONDS)
        assert not found.is_running()


@pytest.mark.usefixtures("thorough")
@pytest.mark.parametrize("victim", ["dvc", "launcher"])
def test_none_of_several_processes_outlives_its_dvc_or_the_launcher(
    victim: str, checkout: Checkout, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.delenv("SHELL", raising=False)
    checkout.change(machine__num_processes=2, train__checkpoint_every=1e-9, **LONG["train"])
    before = checkpoints(state_of(checkout))
    with checkout.start("dvc", "repro", "--force", "--single-item", "train") as dvc:
        while checkpoints(state_of(checkout)) == before:
            assert dvc.poll() is None
            time.sleep(0.05)
        launcher = stage_of(dvc.pid)
        processes = [launcher, *launcher.children()]
        assert len(processes) == 3
        os.kill(dvc.pid if victim == "dvc" else launcher.pid, signal.SIGKILL)
        _, left = psutil.wait_procs(processes, timeout=SECONDS)
        assert left == []
