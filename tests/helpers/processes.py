"""What tests of stages in several processes share."""

import shutil
import time
from collections.abc import Callable

import numpy as np

from helpers.checkout import Checkout

TOLERANCE = 1e-4  # relative: another order of sums differs by 1e-7, wrong gradients by 1e-2
WAIT_SECONDS = 120  # for what takes a few on an idle machine


def curve(checkout: Checkout) -> np.ndarray:
    """Return the loss curve of the training, one row per epoch."""
    path = checkout.root / "metrics/train.csv"
    return np.loadtxt(path, delimiter=",", skiprows=1, ndmin=2)


def trained_alone(checkout: Checkout) -> np.ndarray:
    """Train in one process; returns the curve, and deletes all that a training goes on from."""
    assert checkout.stage("train").returncode == 0
    found = curve(checkout)
    for folder in ("work/train", "data/models"):
        shutil.rmtree(checkout.root / folder)
    return found


def wait_for(condition: Callable[[], object]) -> None:
    """Wait until a condition holds."""
    end = time.monotonic() + WAIT_SECONDS
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)
