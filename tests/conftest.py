"""Fixtures: the whole pipeline, run once on little data; small models; the stand-in hub."""

import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from filelock import FileLock
from helpers.checkout import Checkout, copy_project
from helpers.faults import THOROUGH
from helpers.faults.table import pytest_runtest_makereport, pytest_terminal_summary  # noqa: F401
from helpers.standin import StandInHub
from hypothesis import settings

# before anything reads them: no test reaches the real hub, or the user's cache and token
HUB = StandInHub()
HF_HOME = tempfile.TemporaryDirectory(prefix="liquidgen-hf-")
os.environ |= {"HF_ENDPOINT": HUB.url, "HF_HOME": HF_HOME.name, "HF_HUB_DISABLE_TELEMETRY": "1"}
for name in ("HF_TOKEN", "HF_HUB_CACHE", "HF_HUB_OFFLINE", "HF_DATASETS_CACHE"):
    os.environ.pop(name, None)

# a shell's background job ignores the first, and `nohup` the second, and so would the processes
# that tests interrupt
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)


# equal inputs in every short run; the profile is chosen by --hypothesis-profile
settings.register_profile("short", max_examples=40, deadline=None, derandomize=True, database=None)
settings.register_profile("thorough", max_examples=1000, deadline=None, database=None)
settings.load_profile("short")


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("faults")
    group.addoption(
        "--kills",
        type=int,
        default=4,
        help=f"of one training; {THOROUGH} runs all tests",
    )
    group.addoption("--seed", type=int, default=0, help="random seed of kills and soak")
    group.addoption("--hosts", action="store_true", help="run the tests that make networks")
    group.addoption("--soak", type=float, default=0, help="minutes of random edits and faults")


@pytest.fixture
def kills(request: pytest.FixtureRequest) -> int:
    """Number of kills of one training."""
    return request.config.getoption("--kills")


@pytest.fixture
def thorough(kills: int) -> None:
    """Skip a test that takes minutes, unless all tests are wanted."""
    if kills < THOROUGH:
        pytest.skip(f"takes minutes: `make faults`, or --kills {THOROUGH}")


@pytest.fixture(scope="session")
def pipeline(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """A worker's copy of all five stages, run once; tests that change it take `checkout`."""
    folder = tmp_path_factory.getbasetemp()
    if hasattr(request.config, "workerinput"):  # in a worker of pytest-xdist
        folder = folder.parent  # of all workers
    root, done = folder / "pipeline", folder / "pipeline.done"
    with FileLock(folder / "pipeline.lock", timeout=600):
        if not done.exists():
            shutil.rmtree(root, ignore_errors=True)  # of a worker that failed
            stages = copy_project(root).repro()
            assert stages == ["download", "encode", "train", "sample", "evaluate"]
            done.touch()
    own = tmp_path_factory.mktemp("pipeline") / "project"
    return Checkout(shutil.copytree(root, own, symlinks=True))


@pytest.fixture
def checkout(pipeline: Checkout, tmp_path: Path) -> Checkout:
    """The checkout after its first run, for one test alone."""
    shutil.copytree(pipeline.root, tmp_path / "project", symlinks=True)
    return Checkout(tmp_path / "project")


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a small model of three classes."""
    from helpers import small_model  # torch takes seconds, and not all tests need it

    return small_model.save(tmp_path_factory.mktemp("models") / "labelled", small_model.CLASSES)


@pytest.fixture(scope="session")
def unconditional(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a small model without classes."""
    from helpers import small_model

    return small_model.save(tmp_path_factory.mktemp("models") / "unconditional", None)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StandInHub]:
    """The stand-in hub without repositories, and an empty cache on the client's side."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hf"))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hf"))  # for processes that a test starts
    HUB.forget()
    yield HUB
    HUB.forget()
