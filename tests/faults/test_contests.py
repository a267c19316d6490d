"""Two trainings at once: one is refused in one line, the other ends as if it had been alone."""

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from subprocess import Popen

import psutil
import pytest
from helpers.checkout import Checkout
from helpers.faults.kills import LONGEST, stage_of, struck
from helpers.faults.training import ANEW, BARE, STEPS, refused, state_of, train, weights

from liquidgen.stages.train.checkpoint import checkpoints


@contextmanager
def paused_in_training(trained: Checkout, *command: str) -> Iterator[Popen]:
    """A training that has begun its last step and is stopped there for a while."""
    state = state_of(trained)
    _, newest = checkpoints(state)[-1]
    newest.unlink()
    shutil.rmtree(state / "epochs-3")
    with trained.start(*command) as process:
        while not (state / "epochs-3/run.json").exists():  # it is in the folder
            assert process.poll() is None
            time.sleep(0.005)
        stage = stage_of(process.pid) or psutil.Process(process.pid)
        stage.suspend()
        yield process
        stage.resume()
        assert process.wait(LONGEST) == 0


def impatient(trained: Checkout) -> None:
    """Let trainers of this checkout wait for each other for a second only."""
    code = trained.root / "liquidgen/stages/train/run_state.py"
    other = code.read_text().replace("PATIENCE = 30.0 ", "PATIENCE = 1.0 ")
    assert other != code.read_text()
    code.write_text(other)


BY_DVC = ("dvc", "repro", "--single-item", "train")


def contest(trained: Checkout, first: tuple[str, ...], second: tuple[str, ...]) -> None:
    """Start the second training while the first one is in its last step."""
    impatient(trained)
    state = state_of(trained)
    with paused_in_training(trained, *first):
        said = refused(trained, *second)
        assert said == f"error: {state}: another process trains here; wait for it, or end it"
    assert [step for step, _ in checkpoints(state)] == [STEPS - 1, STEPS]


def test_of_two_bare_trainers_one_is_refused_and_the_other_ends_as_ever(
    trained: Checkout, finished: Checkout
):
    contest(trained, BARE, BARE)
    assert weights(trained) == weights(finished)


@pytest.mark.usefixtures("thorough")
@pytest.mark.parametrize("bare_first", [True, False])
def test_of_a_bare_trainer_and_dvc_one_is_refused_and_the_other_ends_as_ever(
    bare_first: bool, trained: Checkout, finished: Checkout
):
    contest(trained, *((BARE, BY_DVC) if bare_first else (BY_DVC, BARE)))
    train(trained, *ANEW)
    assert weights(trained) == weights(finished)


@pytest.mark.usefixtures("thorough")
def test_two_dvc_at_once_train_once(trained: Checkout, finished: Checkout):
    with paused_in_training(trained, "dvc", "repro", *ANEW):
        listed = (trained.root / ".dvc/tmp/rwlock").read_bytes()
        trained.run("python", "-m", "liquidgen", "repair", check=True)  # even then
        assert (trained.root / ".dvc/tmp/rwlock").read_bytes() == listed
        code, said = struck(trained, None, "train")
        assert code != 0
        assert "is busy" in said
    assert weights(trained) == weights(finished)
