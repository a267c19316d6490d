"""Threads that wait: bounded before torch is loaded, unless the user has set how."""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.checkout import PROJECT

import liquidgen

VARIABLES = {"OMP_WAIT_POLICY", *liquidgen._WAITING}


def spins_after(code: str, **variables: str) -> str:
    """Run code that loads torch's OpenMP; returns the number of spins that it prints then."""
    kept = {name: value for name, value in os.environ.items() if name not in VARIABLES}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=kept | variables | {"OMP_DISPLAY_ENV": "verbose"},
        capture_output=True,
        text=True,
        cwd=PROJECT,
        check=True,
    )
    return re.search(r"GOMP_SPINCOUNT = '(\d+)'", done.stderr)[1]


@pytest.fixture(scope="module")
def openmp() -> Path:
    """GNU's OpenMP, as torch for Linux ships it."""
    [torch] = importlib.util.find_spec("torch").submodule_search_locations
    for path in Path(torch, "lib").glob("libgomp*"):
        return path
    pytest.skip("torch has another OpenMP here")


@pytest.mark.usefixtures("openmp")
def test_threads_of_a_stage_do_not_spin_for_long():
    assert spins_after("import stages.sample") == liquidgen._WAITING["GOMP_SPINCOUNT"]


@pytest.mark.parametrize(
    ("variables", "spins"),
    [
        ({}, liquidgen._WAITING["GOMP_SPINCOUNT"]),
        ({"GOMP_SPINCOUNT": "77"}, "77"),
        ({"OMP_WAIT_POLICY": "passive"}, "0"),
        ({"OMP_WAIT_POLICY": "active"}, "30000000000"),
        ({"KMP_BLOCKTIME": "5"}, "300000"),
    ],
)
def test_choice_of_the_user_comes_first(variables: dict[str, str], spins: str, openmp: Path):
    code = f"import ctypes, liquidgen; ctypes.CDLL({str(openmp)!r})"
    assert spins_after(code, **variables) == spins
