"""Damaged checkpoints and journals of interrupted work are read or left out, never fatal."""

import json
from pathlib import Path

import pytest
import torch
from helpers.fuzz import ODD, accepted_or_refused, damaged
from hypothesis import given
from hypothesis import strategies as st

from liquidgen.stages.train.checkpoint import load_checkpoint, save_checkpoint
from liquidgen.tracking.journal import Journal
from liquidgen.utils.files import sha256


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Checkpoints of two steps."""
    folder = tmp_path_factory.mktemp("checkpoints")
    for step in (1, 2):
        save_checkpoint(folder, step, {"weight": torch.full((3,), float(step))}, {"step": step})
    return folder


@pytest.mark.fault("fuzz: checkpoints, also under a name that fits")
@given(st.data())
def test_damaged_checkpoint(checkpoints: Path, data: st.DataObject):
    (path,) = checkpoints.glob("step-000000002-*")
    original = path.read_bytes()
    content = data.draw(damaged(original))
    name = path.name
    if data.draw(st.booleans()):
        name = f"step-000000002-{sha256(content)[:16]}.safetensors"
    path.unlink()
    forged = checkpoints / name
    try:
        forged.write_bytes(content)
        with accepted_or_refused():
            loaded = load_checkpoint(checkpoints, last_step=2)
            assert loaded is not None  # at least the earlier one
    finally:
        forged.unlink(missing_ok=True)
        path.write_bytes(original)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the journals are written."""
    return tmp_path_factory.mktemp("journal")


LINES = [
    {"metrics": {"train/loss": 0.5}, "step": 3},
    {"image": "a.png", "key": "samples", "step": 3, "on_parent": False},
    {"artifact": "grid.png"},
    {"dataset": "dots", "digest": "d", "source": "s"},
    {"end": "FINISHED"},
]


@pytest.mark.fault("fuzz: journals of MLflow's points")
@given(st.lists(st.one_of(st.sampled_from(LINES), ODD), max_size=6), st.data())
def test_damaged_journal(
    tmp_path_factory: pytest.TempPathFactory, lines: list, data: st.DataObject
):
    journal = Journal(tmp_path_factory.mktemp("journal") / "metrics.jsonl")
    content = b"".join(json.dumps(line).encode() + b"\n" for line in lines)
    if data.draw(st.booleans()):
        content = data.draw(damaged(content))
    journal.path.write_bytes(content)
    with accepted_or_refused():
        journal.truncate_partial_line()
        journal.last_steps()
        for batch, _ in journal.batches(0):
            assert all(isinstance(event, dict) for event in batch)
