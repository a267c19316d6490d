"""Hours of edits, kills and damage end like a clean run; `make soak` does two hours."""

from pathlib import Path

import pytest
from helpers.checkout import Checkout, copy_project
from helpers.faults.soak import Soak, results

pytestmark = pytest.mark.fault("soak: random edits, kills and damage, compared with a clean run")


def test_end_equals_clean_run(
    checkout: Checkout, tmp_path: Path, seed: int, request: pytest.FixtureRequest
):
    minutes = request.config.getoption("--soak")
    if not minutes:
        pytest.skip("takes as long as it is told to: pytest tests/faults --soak 120")
    soak = Soak(checkout, seed)
    soak.run(minutes)
    clean = copy_project(tmp_path / "clean")
    clean.write_params(checkout.params)
    clean.repro()
    found, expected = results(checkout.root), results(clean.root)
    differing = [key for key in expected | found if found.get(key) != expected.get(key)]
    assert not differing, f"{differing} differ after {soak.events}"
    for label, count in sorted(soak.events.items()):
        print(f"{count:4} {label}")
