"""A training goes on from whatever checkpoints are sound, and ends as if nothing had been."""

import shutil
from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
from helpers.checkout import Checkout
from helpers.faults.training import ANEW, STEPS, beginning, contents, state_of, train, weights

from liquidgen.stages.train.checkpoint import checkpoints


def flip_a_bit(data: bytes) -> bytes:
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]


def cut(data: bytes) -> bytes:
    return data[: len(data) // 2]


def zeros(data: bytes) -> bytes:
    """As some file systems leave a file after a power cut."""
    return bytes(len(data))


def spoil(trained: Checkout, damage: Callable[[bytes], bytes], kept: list[int]) -> list[str]:
    """Damage all checkpoints but some; the warnings that are due."""
    found = [(0, None), *checkpoints(state_of(trained))]
    warnings = []
    for (before, _), (step, path) in pairwise(found):
        if step not in kept:
            path.write_bytes(damage(path.read_bytes()))
            warnings.append(f"WARNING: {path}: damaged checkpoint, going back to step {before}")
    return warnings


@pytest.mark.parametrize(("damage", "kept"), [(flip_a_bit, [STEPS - 1]), (cut, [])])
def test_damaged_checkpoints_are_named_and_the_training_ends_as_ever(
    damage: Callable[[bytes], bytes], kept: list[int], trained: Checkout, finished: Checkout
):
    warnings = spoil(trained, damage, kept)
    said = train(trained, *ANEW)
    assert set(warnings) <= set(said.splitlines())
    assert beginning(said) == max(kept, default=0)
    assert weights(trained) == weights(finished)


@pytest.mark.usefixtures("thorough")
@pytest.mark.parametrize("damage", [flip_a_bit, cut, zeros])
def test_the_newest_sound_checkpoint_of_several_is_taken(
    damage: Callable[[bytes], bytes], trained: Checkout, finished: Checkout
):
    trained.change(train__num_epochs=2)
    train(trained, *ANEW)
    assert [step for step, _ in checkpoints(state_of(trained))] == [9, 10, 14, 15]
    trained.change(train__num_epochs=3)
    warnings = spoil(trained, damage, [9])
    assert len(warnings) == 3
    said = train(trained, *ANEW)
    assert set(warnings) <= set(said.splitlines())
    assert beginning(said) == 9
    assert weights(trained) == weights(finished)


@pytest.mark.usefixtures("thorough")
def test_state_of_another_format_is_left_alone_and_the_training_begins_anew(
    trained: Checkout, finished: Checkout
):
    earlier = state_of(trained)
    before = contents(earlier)
    code = trained.root / "liquidgen/stages/train/run_state.py"
    other = code.read_text().replace("STATE_VERSION = 1", "STATE_VERSION = 0")
    assert other != code.read_text()
    code.write_text(other)
    assert beginning(train(trained, "train")) == 0
    assert contents(earlier) == before
    assert weights(trained) == weights(finished)


@pytest.mark.usefixtures("thorough")
def test_a_training_goes_on_in_another_number_of_processes(trained: Checkout, finished: Checkout):
    trained.change(machine__num_processes=2, train__num_epochs=4)
    assert beginning(train(trained, "train")) == 15
    trained.change(machine__num_processes=1, train__num_epochs=5)
    assert beginning(train(trained, "train")) == 20
    mixed = np.loadtxt(trained.root / "metrics/train.csv", delimiter=",", skiprows=1)
    shutil.rmtree(state_of(trained))
    train(trained, *ANEW)
    alone = np.loadtxt(trained.root / "metrics/train.csv", delimiter=",", skiprows=1)
    np.testing.assert_allclose(mixed, alone, rtol=1e-3)
