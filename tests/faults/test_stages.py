"""A stage is killed while it writes: other outputs stay, and it ends with the same bytes."""

from pathlib import Path

import pytest
from helpers.checkout import Checkout
from helpers.faults.kills import InWrite, struck

WRITTEN = {  # a late file of each stage
    "download": ".dataset.json.*.tmp",
    "encode": ".manifest.json.*.tmp",
    "train": ".model.json.*.tmp",
    "sample": ".dataset.json.*.tmp",
    "evaluate": ".evaluate.json.*.tmp",
}
SINGLE_PROCESS = ("--force", "--single-item")


def outputs(root: Path) -> dict[str, bytes]:
    """What the stages have made, but for what differs from run to run."""
    paths = [path for folder in ("data", "metrics") for path in (root / folder).rglob("*")]
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in paths
        if path.is_file() and not path.name.startswith(".")
    }


@pytest.mark.usefixtures("thorough")
@pytest.mark.parametrize("moment", ["before fsync", "after rename"])
@pytest.mark.parametrize("stage", WRITTEN)
def test_a_killed_stage_leaves_the_others_and_ends_with_the_same_bytes(
    stage: str, moment: str, checkout: Checkout
):
    before = outputs(checkout.root)
    fault = InWrite(stage, 1, moment, ("dvc", "stage"), WRITTEN[stage])
    code, said = struck(checkout, fault, *SINGLE_PROCESS, stage)
    assert code != 0, said
    left = outputs(checkout.root)
    assert all(before.get(name, data) == data for name, data in left.items())
    lost = {name.split("/")[1] for name in before.keys() - left.keys()}
    assert lost <= own_folders(stage)
    code, said = struck(checkout, None, *SINGLE_PROCESS, stage)
    assert code == 0, said
    assert outputs(checkout.root) == before
    assert list((checkout.root / "data").rglob(".*")) == []


def own_folders(stage: str) -> set[str]:
    return {
        "download": {"raw"},
        "encode": {"latents"},
        "train": {"models", "train.csv", "train.json"},
        "sample": {"samples"},
        "evaluate": {"evaluation", "evaluate.json"},
    }[stage]


@pytest.mark.usefixtures("thorough")
def test_a_killed_encode_keeps_its_finished_parts(checkout: Checkout):
    second_part = InWrite("encode", 2, "before fsync", ("stage",), ".*.npy.*.tmp")
    code, said = struck(checkout, second_part, *SINGLE_PROCESS, "encode")
    assert code != 0, said
    # the same fault finds no second part to make: of two, the first is kept
    code, said = struck(checkout, second_part, *SINGLE_PROCESS, "encode")
    assert code == 0, said
