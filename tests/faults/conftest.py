"""Fixtures of the fault tests; `pytest tests/faults --kills 50` runs all of them."""

import shutil
from pathlib import Path

import pytest
from helpers.checkout import Checkout
from helpers.faults.training import LAST_STEP, state_folder, train

from liquidgen.stages.train.checkpoint import checkpoints


@pytest.fixture
def seed(request: pytest.FixtureRequest) -> int:
    """Random seed of the kills."""
    return request.config.getoption("--seed")


@pytest.fixture(scope="session")
def finished(pipeline: Checkout, tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """Checkout after an uninterrupted training, with checkpoints at its last two steps."""
    root = tmp_path_factory.mktemp("finished") / "project"
    checkout = Checkout(Path(shutil.copytree(pipeline.root, root, symlinks=True)))
    shutil.rmtree(root / "work/train")
    checkout.change(train__num_epochs=3, train__checkpoint_every=1e-9)
    train(checkout, "train")
    assert [step for step, _ in checkpoints(state_folder(checkout))] == [LAST_STEP - 1, LAST_STEP]
    return checkout


@pytest.fixture
def trained(finished: Checkout, tmp_path: Path) -> Checkout:
    """Copy of `finished` for one test."""
    return Checkout(Path(shutil.copytree(finished.root, tmp_path / "project", symlinks=True)))
