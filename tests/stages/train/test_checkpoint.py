"""Checkpoints on disk: exact, found by step, and skipped when damaged."""

import errno
import logging
import resource
import signal
import subprocess
import sys

import pytest
import safetensors.torch
import torch

from liquidgen.stages.train.checkpoint import (
    checkpoints,
    load_checkpoint,
    prune_checkpoints,
    save_checkpoint,
)
from liquidgen.utils.files import sha256

STATE = {"learner": {"step": 3, "scaler": {}}, "losses": [0.1, 2.5]}


def tensors(seed):
    random = torch.Generator().manual_seed(seed)
    weights = torch.randn(300, 7, generator=random)
    return {"model.w": weights, "step.w": torch.tensor(float(seed)), "empty": torch.zeros(0, 3)}


def save(folder, *steps):
    return [save_checkpoint(folder, step, tensors(step), STATE | {"at": step}) for step in steps]


def steps(folder):
    return [step for step, _ in checkpoints(folder)]


def test_save_then_load_is_exact(tmp_path):
    save(tmp_path, 3)
    found, state = load_checkpoint(tmp_path, last_step=3)
    assert state == STATE | {"at": 3}
    assert found.keys() == tensors(3).keys()
    for name, value in tensors(3).items():
        assert torch.equal(found[name], value)
        assert found[name].dtype == value.dtype


def test_empty_folder_has_no_checkpoint(tmp_path):
    assert load_checkpoint(tmp_path, last_step=10) is None


@pytest.mark.parametrize(("last_step", "found"), [(5, 5), (7, 5), (999, 40), (4, None)])
def test_load_newest_up_to_last_step(tmp_path, last_step, found):
    save(tmp_path, 40, 5)
    loaded = load_checkpoint(tmp_path, last_step)
    assert (loaded and loaded[1]["at"]) == found


def flip(data):
    data[len(data) // 2] ^= 1
    return data


@pytest.mark.parametrize(
    "damage",
    [flip, lambda data: data[:-1], lambda data: data[:20], lambda data: b""],
    ids=["a flipped bit", "one byte short", "cut", "empty"],
)
def test_damaged_checkpoint_falls_back_with_warning(tmp_path, caplog, damage):
    *_, newest = save(tmp_path, 10, 20, 30)
    newest.write_bytes(damage(bytearray(newest.read_bytes())))
    with caplog.at_level(logging.WARNING):
        found, state = load_checkpoint(tmp_path, last_step=99)
    assert state["at"] == 20
    assert torch.equal(found["model.w"], tensors(20)["model.w"])
    [record] = caplog.records
    assert record.getMessage() == f"{newest}: damaged checkpoint, going back to step 20"


def test_step_has_one_checkpoint(tmp_path):
    first, second = save(tmp_path, 1, 2)
    again = save_checkpoint(tmp_path, 2, tensors(3), STATE)
    assert checkpoints(tmp_path) == [(1, first), (2, again)]
    assert again != second


def test_load_is_none_when_all_are_damaged(tmp_path, caplog):
    for path in save(tmp_path, 1, 2):
        path.write_bytes(b"x")
    assert load_checkpoint(tmp_path, last_step=99) is None
    ends = [record.getMessage().rpartition("going back to ")[2] for record in caplog.records]
    assert ends == ["step 1", "step 0"]


def test_other_files_are_ignored(tmp_path):
    save(tmp_path, 1)
    for name in ("step-1.safetensors", "step-000000009-xyz.safetensors", "lock", "run.json"):
        (tmp_path / name).write_bytes(b"x")
    assert steps(tmp_path) == [1]


KILLED = """
import os, signal, sys
from pathlib import Path
import torch
from liquidgen.stages.train import checkpoint
os.fsync = lambda file: os.kill(os.getpid(), signal.SIGKILL)
checkpoint.save_checkpoint(Path(sys.argv[1]), 2, {"w": torch.zeros(9)}, {})
"""


def test_killed_writer_leftover_is_ignored_and_pruned(tmp_path):
    [kept] = save(tmp_path, 1)
    done = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)])
    assert done.returncode == -signal.SIGKILL
    assert len(list(tmp_path.iterdir())) == 2
    assert load_checkpoint(tmp_path, last_step=99)[1]["at"] == 1
    prune_checkpoints(tmp_path, step=1, keep=2)
    assert list(tmp_path.iterdir()) == [kept]


def test_full_disk_is_os_error_and_keeps_earlier(tmp_path):
    [kept] = save(tmp_path, 1)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2_000_000, limits[1]))
    try:
        with pytest.raises(OSError) as error:  # noqa: PT011
            save_checkpoint(tmp_path, 2, {"w": torch.zeros(1_000_000)}, {})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert error.value.errno == errno.EFBIG
    assert list(tmp_path.iterdir()) == [kept]


def test_failed_write_keeps_earlier(tmp_path):
    save(tmp_path, 1)
    with pytest.raises(TypeError):
        save_checkpoint(tmp_path, 2, tensors(2), {"not for JSON": object()})
    assert load_checkpoint(tmp_path, last_step=99)[1]["at"] == 1


def test_pruning_keeps_newest_and_longer_training(tmp_path):
    save(tmp_path, 1, 2, 3, 4, 50)
    prune_checkpoints(tmp_path, step=4, keep=2)
    assert steps(tmp_path) == [3, 4, 50]


def named_after_its_content(folder, step, data):
    path = folder / f"step-{step:09d}-{sha256(data)[:16]}.safetensors"
    path.write_bytes(data)
    return path


def content(state, **tensors):
    return safetensors.torch.save(tensors or {"w": torch.zeros(1)}, {"facts": state})


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"no checkpoint",
        (2**63).to_bytes(8, "little"),
        safetensors.torch.save({"w": torch.zeros(1)}),
        safetensors.torch.save({"w": torch.zeros(1)}, {"other": "{}"}),
        content("{"),
        content("[" * 100_000),
    ],
    ids=["empty", "text", "header", "no metadata", "no state", "cut state", "nested state"],
)
def test_wrong_content_under_its_own_digest_is_left_out(tmp_path, caplog, data):
    save(tmp_path, 1)
    newest = named_after_its_content(tmp_path, 2, data)
    assert load_checkpoint(tmp_path, last_step=99)[1]["at"] == 1
    assert f"{newest}: damaged checkpoint, going back to step 1" in caplog.text


def test_folder_with_the_name_of_a_checkpoint_is_ignored(tmp_path):
    save(tmp_path, 1)
    (tmp_path / f"step-{2:09d}-{'0' * 16}.safetensors").mkdir()
    assert steps(tmp_path) == [1]
