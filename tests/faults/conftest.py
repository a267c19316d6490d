"""How many kills, and which; `pytest tests/faults --kills 50` is the thorough version."""

import shutil
from pathlib import Path

import pytest
from helpers.checkout import Checkout
from helpers.faults.training import STEPS, state_of, train

from liquidgen.stages.train.checkpoint import checkpoints

FEW, THOROUGH = 4, 50


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("faults")
    group.addoption("--kills", type=int, default=FEW, help=f"of one training; {THOROUGH}: thorough")
    group.addoption("--seed", type=int, default=0, help="of the kills")


@pytest.fixture
def kills(request: pytest.FixtureRequest) -> int:
    """How often a training is killed."""
    return request.config.getoption("--kills", FEW)  # not there if this folder is not named


@pytest.fixture
def seed(request: pytest.FixtureRequest) -> int:
    """Which kills."""
    return request.config.getoption("--seed", 0)


@pytest.fixture
def thorough(kills: int) -> None:
    """For tests that take minutes."""
    if kills < THOROUGH:
        pytest.skip(f"takes minutes: pytest tests/faults --kills {THOROUGH}")


@pytest.fixture(scope="session")
def finished(pipeline: Checkout, tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """A training that nothing disturbed, with checkpoints at its last two steps."""
    root = tmp_path_factory.mktemp("finished") / "project"
    checkout = Checkout(Path(shutil.copytree(pipeline.root, root, symlinks=True)))
    shutil.rmtree(root / "work/train")
    checkout.change(train__num_epochs=3, train__checkpoint_every=1e-9)
    train(checkout, "train")
    assert [step for step, _ in checkpoints(state_of(checkout))] == [STEPS - 1, STEPS]
    return checkout


@pytest.fixture
def trained(finished: Checkout, tmp_path: Path) -> Checkout:
    """A copy of it for one test alone."""
    return Checkout(Path(shutil.copytree(finished.root, tmp_path / "project", symlinks=True)))
