"""How many kills, and which; `pytest tests/faults --kills 50` is the thorough version."""

import pytest

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
