"""Stages launched in several processes: shared errors, killed ranks, signals."""

import signal
import time
from pathlib import Path

import psutil
from helpers.checkout import Checkout

from liquidgen.runtime.signals import INTERRUPTED

NUM_PROCESSES = 2
TIMEOUT_SECONDS = 60  # for a checkpoint to appear, and for all processes to end when one has


def make_training_long(checkout: Checkout) -> None:
    """Set parameters with which a training in several processes takes hours."""
    checkout.change(
        machine__num_processes=NUM_PROCESSES,
        train__seed=7,
        train__num_epochs=100_000,
        train__checkpoint_every=0.2,
        train__preview_every=0,
    )


def wait_for_checkpoint(checkout: Checkout, since: float) -> Path:
    """Return the newest checkpoint, once there is one that was written after `since`."""
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while time.monotonic() < deadline:
        if found := list((checkout.root / "work/train").glob("*/step-*.safetensors")):
            newest = max(found, key=lambda path: path.stat().st_mtime)
            if newest.stat().st_mtime > since:
                return newest
        time.sleep(0.1)
    raise AssertionError(f"no checkpoint within {TIMEOUT_SECONDS} s")


def ranks_of(launcher: psutil.Process) -> list[psutil.Process]:
    """Return the processes of a launcher in order of rank."""
    found = [child for child in launcher.children() if "-m" in child.cmdline()]
    return sorted(found, key=lambda child: int(child.environ()["RANK"]))


def test_error_of_all_ranks_is_printed_once(checkout: Checkout):
    checkout.change(machine__num_processes=NUM_PROCESSES, train__batch_size=15)
    refused = checkout.stage("train")
    assert refused.returncode == 1
    assert refused.stderr.count("error: train.batch_size: 15 does not divide by 2") == 1
    assert "Traceback" not in refused.stderr


def test_killed_rank_ends_all_and_one_process_continues(checkout: Checkout):
    rank = NUM_PROCESSES - 1
    started = time.time()
    make_training_long(checkout)
    with checkout.start("python", "-m", "stages.train") as stage:
        wait_for_checkpoint(checkout, started)
        ranks_of(psutil.Process(stage.pid))[rank].kill()
        _, errors = stage.communicate(timeout=TIMEOUT_SECONDS)
        assert stage.returncode == 1
    assert f"process {rank} was killed by SIGKILL" in errors.decode()
    assert "Traceback" not in errors.decode()
    newest = wait_for_checkpoint(checkout, started)
    step = int(newest.name.split("-")[1])
    checkout.change(machine__num_processes=1)
    with checkout.start("python", "-m", "stages.train"):
        later = wait_for_checkpoint(checkout, time.time())
    assert int(later.name.split("-")[1]) > step
    assert later.parent == newest.parent


def test_sigterm_lets_all_ranks_save_and_exit(checkout: Checkout):
    started = time.time()
    make_training_long(checkout)
    with checkout.start("python", "-m", "stages.train") as stage:
        wait_for_checkpoint(checkout, started)
        ranks = ranks_of(psutil.Process(stage.pid))
        stage.send_signal(signal.SIGTERM)
        _, errors = stage.communicate(timeout=TIMEOUT_SECONDS)
    assert stage.returncode == INTERRUPTED
    assert errors.decode().count("all progress is saved; `dvc repro` continues") == 1
    assert "Traceback" not in errors.decode()
    assert "torch/distributed/elastic" not in errors.decode()  # torch logs with its source file
    assert not any(rank.is_running() for rank in ranks)
