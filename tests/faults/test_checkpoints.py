"""A training continues from its newest intact checkpoint, with unchanged results."""

import shutil
from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
from helpers.checkout import Checkout
from helpers.faults.training import (
    FORCE_TRAIN,
    LAST_STEP,
    checkpoint_contents,
    first_step,
    state_folder,
    train,
    weights,
)
from helpers.processes import curve

from liquidgen.stages.train.checkpoint import checkpoints

pytestmark = pytest.mark.fault("damaged, cut and missing checkpoints")


def flip_bit(data: bytes) -> bytes:
    """Flip a bit in the middle."""
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]


def truncate(data: bytes) -> bytes:
    """Cut the second half off."""
    return data[: len(data) // 2]


def zero(data: bytes) -> bytes:
    """Zero all bytes, as some file systems do in a power cut."""
    return bytes(len(data))


def damage_checkpoints(
    trained: Checkout, damage: Callable[[bytes], bytes], kept: list[int]
) -> list[str]:
    """Damage all checkpoints except those of the steps `kept`; returns the expected warnings."""
    found = [(0, None), *checkpoints(state_folder(trained))]
    warnings = []
    for (before, _), (step, path) in pairwise(found):
        if step not in kept:
            path.write_bytes(damage(path.read_bytes()))
            warnings.append(f"WARNING: {path}: damaged checkpoint, going back to step {before}")
    return warnings


@pytest.mark.parametrize(("damage", "kept"), [(flip_bit, [LAST_STEP - 1]), (truncate, [])])
def test_damaged_checkpoints_are_named_and_skipped(
    damage: Callable[[bytes], bytes], kept: list[int], trained: Checkout, finished: Checkout
):
    warnings = damage_checkpoints(trained, damage, kept)
    output = train(trained, *FORCE_TRAIN)
    assert set(warnings) <= set(output.splitlines())
    assert first_step(output) == max(kept, default=0)
    assert weights(trained) == weights(finished)


@pytest.mark.usefixtures("thorough")
@pytest.mark.parametrize("damage", [flip_bit, truncate, zero])
def test_newest_intact_checkpoint_is_used(
    damage: Callable[[bytes], bytes], trained: Checkout, finished: Checkout
):
    trained.change(train__num_epochs=2)
    train(trained, *FORCE_TRAIN)
    assert [step for step, _ in checkpoints(state_folder(trained))] == [9, 10, 14, 15]
    trained.change(train__num_epochs=3)
    warnings = damage_checkpoints(trained, damage, [9])
    assert len(warnings) == 3
    output = train(trained, *FORCE_TRAIN)
    assert set(warnings) <= set(output.splitlines())
    assert first_step(output) == 9
    assert weights(trained) == weights(finished)


@pytest.mark.usefixtures("thorough")
def test_state_of_other_version_is_kept_and_not_used(trained: Checkout, finished: Checkout):
    earlier = state_folder(trained)
    before = checkpoint_contents(earlier)
    code = trained.root / "liquidgen/stages/train/run_state.py"
    other = code.read_text().replace("STATE_VERSION = 1", "STATE_VERSION = 0")
    assert other != code.read_text()
    code.write_text(other)
    assert first_step(train(trained, "train")) == 0
    assert checkpoint_contents(earlier) == before
    assert weights(trained) == weights(finished)


@pytest.mark.usefixtures("thorough")
def test_number_of_processes_may_change(trained: Checkout, finished: Checkout):
    trained.change(machine__num_processes=2, train__num_epochs=4)
    assert first_step(train(trained, "train")) == 15
    trained.change(machine__num_processes=1, train__num_epochs=5)
    assert first_step(train(trained, "train")) == 20
    mixed = curve(trained)
    shutil.rmtree(state_folder(trained))
    train(trained, *FORCE_TRAIN)
    alone = curve(trained)
    np.testing.assert_allclose(mixed, alone, rtol=1e-3)
