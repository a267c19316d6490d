"""Two concurrent trainings: one is refused with one line, the other ends as if alone."""

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from subprocess import Popen

import psutil
import pytest
from helpers.checkout import Checkout
from helpers.faults.kills import TIMEOUT_SECONDS, find_stage, run_repro
from helpers.faults.training import (
    FORCE_TRAIN,
    LAST_STEP,
    WITHOUT_DVC,
    run_failing,
    state_folder,
    train,
    weights,
)

from liquidgen.stages.train.checkpoint import checkpoints

pytestmark = pytest.mark.fault("two trainings at once")

TRAIN_BY_DVC = ("dvc", "repro", *FORCE_TRAIN)


@contextmanager
def paused_training(trained: Checkout, *command: str) -> Iterator[Popen]:
    """Start a training from step 0, and suspend it within the context, while it holds its lock."""
    state = state_folder(trained)
    tracking = state / f"epochs-{trained.params['train']['num_epochs']}"
    shutil.rmtree(tracking)
    for _, path in checkpoints(state):
        path.unlink()
    with trained.start(*command) as process:
        deadline = time.monotonic() + TIMEOUT_SECONDS
        while not (tracking / "run.json").exists():  # written under the lock, before step 1
            assert process.poll() is None, process.stderr.read()
            assert time.monotonic() < deadline, "the training does not start"
            time.sleep(0.005)
        stage = find_stage(process.pid) or psutil.Process(process.pid)
        stage.suspend()
        yield process
        stage.resume()
        assert process.wait(TIMEOUT_SECONDS) == 0


def assert_second_is_refused(
    trained: Checkout, first: tuple[str, ...], second: tuple[str, ...]
) -> None:
    """Start a second training while the first one is suspended."""
    state = state_folder(trained)
    with paused_training(trained, *first):
        error = run_failing(trained, *second)  # after the time that trainers wait for each other
        assert error == f"error: {state}: another process trains here; wait for it, or end it"
    assert [step for step, _ in checkpoints(state)] == [LAST_STEP - 1, LAST_STEP]


def test_concurrent_training_is_refused(trained: Checkout, finished: Checkout):
    assert_second_is_refused(trained, WITHOUT_DVC, WITHOUT_DVC)
    assert weights(trained) == weights(finished)


@pytest.mark.usefixtures("thorough")
@pytest.mark.parametrize("dvc_is_second", [True, False])
def test_concurrent_training_with_dvc_is_refused(
    dvc_is_second: bool, trained: Checkout, finished: Checkout
):
    order = (WITHOUT_DVC, TRAIN_BY_DVC) if dvc_is_second else (TRAIN_BY_DVC, WITHOUT_DVC)
    assert_second_is_refused(trained, *order)
    train(trained, *FORCE_TRAIN)
    assert weights(trained) == weights(finished)


@pytest.mark.usefixtures("thorough")
def test_concurrent_dvc_trains_once(trained: Checkout, finished: Checkout):
    with paused_training(trained, "dvc", "repro", *FORCE_TRAIN):
        rwlock = (trained.root / ".dvc/tmp/rwlock").read_bytes()
        trained.run("python", "-m", "liquidgen", "repair", check=True)  # keeps valid entries
        assert (trained.root / ".dvc/tmp/rwlock").read_bytes() == rwlock
        code, output = run_repro(trained, None, "train")
        assert code != 0
        assert "is busy" in output
    assert weights(trained) == weights(finished)
