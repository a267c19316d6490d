"""A stage that is killed while it writes: other outputs stay, and its rerun gives equal bytes."""

from pathlib import Path

import pytest
from helpers.checkout import Checkout
from helpers.faults.kills import KillInWrite, run_repro

pytestmark = pytest.mark.fault("every stage killed while it writes")

WRITTEN = {  # one of the last files of each stage
    "download": ".dataset.json.*.tmp",
    "encode": ".manifest.json.*.tmp",
    "train": ".model.json.*.tmp",
    "sample": ".dataset.json.*.tmp",
    "evaluate": ".evaluate.json.*.tmp",
}
FORCE_STAGE = ("--force", "--single-item")


def outputs(root: Path) -> dict[str, bytes]:
    """Return the content of all files in data/ and metrics/, except hidden ones."""
    paths = [path for folder in ("data", "metrics") for path in (root / folder).rglob("*")]
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in paths
        if path.is_file() and not path.name.startswith(".")
    }


@pytest.mark.usefixtures("thorough")
@pytest.mark.parametrize("moment", ["before fsync", "after rename"])
@pytest.mark.parametrize("stage", WRITTEN)
def test_killed_stage_keeps_other_outputs_and_its_bytes(
    stage: str, moment: str, checkout: Checkout
):
    before = outputs(checkout.root)
    fault = KillInWrite(stage, 1, moment, ("dvc", "stage"), WRITTEN[stage])
    code, output = run_repro(checkout, fault, *FORCE_STAGE, stage)
    assert code != 0, output
    left = outputs(checkout.root)
    assert all(before.get(name, data) == data for name, data in left.items())
    lost = {name.split("/")[1] for name in before.keys() - left.keys()}
    assert lost <= own_outputs(stage)
    code, output = run_repro(checkout, None, *FORCE_STAGE, stage)
    assert code == 0, output
    assert outputs(checkout.root) == before
    assert list((checkout.root / "data").rglob(".*")) == []


def own_outputs(stage: str) -> set[str]:
    """Return the names below data/ and metrics/ that a stage writes."""
    return {
        "download": {"raw"},
        "encode": {"latents"},
        "train": {"models", "train.csv", "train.json"},
        "sample": {"samples"},
        "evaluate": {"evaluation", "evaluate.json"},
    }[stage]


@pytest.mark.usefixtures("thorough")
def test_killed_encode_keeps_finished_parts(checkout: Checkout):
    second_part = KillInWrite("encode", 2, "before fsync", ("stage",), ".*.npy.*.tmp")
    code, output = run_repro(checkout, second_part, *FORCE_STAGE, "encode")
    assert code != 0, output
    # the same fault does not occur: the first of two parts is kept, so one file is written
    code, output = run_repro(checkout, second_part, *FORCE_STAGE, "encode")
    assert code == 0, output
