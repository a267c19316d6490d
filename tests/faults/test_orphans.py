"""A stage exits soon after its DVC is killed, even while it is still starting."""

import os
import signal
import time

import psutil
import pytest
from helpers.checkout import Checkout
from helpers.faults.kills import find_stage
from helpers.faults.training import state_folder

from liquidgen.config.params import STAGES
from liquidgen.stages.train.checkpoint import checkpoints

pytestmark = pytest.mark.fault("DVC or the launcher killed")

TIMEOUT_SECONDS = 30  # for a stage to exit
LONG_SETTINGS = {  # settings with which a stage takes minutes
    "download": {"datasets__procedural__num_images": 100_000},
    "encode": {"image_size": 1024, "encode__max_upscale": 16.0, "encode__batch_size": 1},
    "train": {"train__num_epochs": 100_000},
    "sample": {"sample__num_inference_steps": 100_000},
    "evaluate": {"evaluate__kid_subsets": 10_000_000},
}


@pytest.mark.parametrize("late", [False, True], ids=["at its start", "while it imports"])
@pytest.mark.parametrize("stage", STAGES)
def test_stage_exits_after_its_dvc(
    stage: str, late: bool, checkout: Checkout, monkeypatch: pytest.MonkeyPatch
):
    # then DVC uses sh, which may stay as a process between DVC and the stage
    monkeypatch.delenv("SHELL", raising=False)
    checkout.change(**LONG_SETTINGS[stage])
    with checkout.start("dvc", "repro", "--force", "--single-item", stage) as dvc:
        while not (found := find_stage(dvc.pid)):
            time.sleep(0.01)
        if late:
            time.sleep(0.5)
        found.send_signal(signal.SIGSTOP)  # what it has not done yet, it does after the end of DVC
        os.kill(dvc.pid, signal.SIGKILL)
        dvc.wait()
        found.send_signal(signal.SIGCONT)
        psutil.wait_procs([found], timeout=TIMEOUT_SECONDS)
        assert not found.is_running()


@pytest.mark.usefixtures("thorough")
@pytest.mark.parametrize("victim", ["dvc", "launcher"])
def test_all_ranks_exit_after_dvc_or_launcher(
    victim: str, checkout: Checkout, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.delenv("SHELL", raising=False)
    checkout.change(**LONG_SETTINGS["train"])
    checkout.change(machine__num_processes=2, train__checkpoint_every=1e-9)
    before = checkpoints(state_folder(checkout))
    with checkout.start("dvc", "repro", "--force", "--single-item", "train") as dvc:
        while checkpoints(state_folder(checkout)) == before:
            assert dvc.poll() is None
            time.sleep(0.05)
        launcher = find_stage(dvc.pid)
        processes = [launcher, *launcher.children()]
        assert len(processes) == 3
        os.kill(dvc.pid if victim == "dvc" else launcher.pid, signal.SIGKILL)
        _, left = psutil.wait_procs(processes, timeout=TIMEOUT_SECONDS)
        assert left == []
