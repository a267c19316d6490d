"""DVC alone is killed: its stage ends soon, also while it still starts."""

import os
import signal
import time

import psutil
import pytest
from conftest import Checkout

from liquidgen.config import STAGES

from .kills import stage_of

SECONDS = 30  # in which a stage must end


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_does_not_outlive_its_dvc(stage: str, checkout: Checkout):
    many = {  # much longer than the patience of this test
        "datasets__procedural__num_images": 100_000 if stage == "download" else 200,
        "train__num_epochs": 100_000 if stage == "train" else 2,
    }
    checkout.change(**many)
    with checkout.start("dvc", "repro", "--force", "--single-item", stage) as dvc:
        while not (found := stage_of(dvc.pid)):
            time.sleep(0.01)
        time.sleep(0.2)  # Python itself has started, torch has not
        os.kill(dvc.pid, signal.SIGKILL)
        psutil.wait_procs([found], timeout=SECONDS)
        assert not found.is_running()
