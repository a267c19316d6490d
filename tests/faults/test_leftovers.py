"""What a killed DVC leaves in .dvc/tmp, and what damaged or hindered state does to `dvc repro`."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import Checkout

from liquidgen.checkpoint import checkpoints


def repro_train(checkout: Checkout) -> tuple[int, str]:
    done = checkout.run("dvc", "repro", "train")
    return done.returncode, done.stdout + done.stderr


@pytest.fixture
def state(checkout: Checkout) -> Path:
    """The folder of the training's checkpoints, after one more epoch was asked for."""
    (folder,) = [path for path in (checkout.root / "work/train").iterdir() if path.is_dir()]
    assert [step for step, _ in checkpoints(folder)] == [10]
    checkout.change(train__num_epochs=3)
    return folder


def damage(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.usefixtures("thorough")
def test_a_lock_entry_of_a_dead_dvc_is_passed_over(checkout: Checkout):
    checkout.change(train__num_epochs=3)
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    (model,) = (checkout.root / "data/models").iterdir()
    entry = {"write": {str(model): {"pid": dead.pid, "cmd": "dvc repro"}}, "read": {}}
    (checkout.root / ".dvc/tmp/rwlock").write_text(json.dumps(entry))
    code, said = repro_train(checkout)
    assert code == 0, said


LOCK, LIST = "dvc.lock", ".dvc/tmp/rwlock"


def leftovers(checkout: Checkout) -> list[tuple[str, bytes]]:
    """Files as DVC leaves them when it is killed while it writes them, and over which it stumbles.

    Last, its list of who works on what, which names a process that has ended and whose number
    another program has by now.
    """
    whole = (checkout.root / LOCK).read_bytes()
    (model,) = (checkout.root / "data/models").iterdir()
    reused = {"write": {str(model): {"pid": os.getpid(), "cmd": "dvc repro train"}}, "read": {}}
    return [
        (LOCK, b""),
        (LOCK, whole[: whole.index(b"schema") + 3]),
        (LOCK, whole[: whole.index(b"hash") + 2]),
        (LIST, b""),
        (LIST, b'{"write": {"/data/mod'),
        (LIST, json.dumps(reused).encode()),
    ]


def mend(checkout: Checkout) -> str:
    done = checkout.run("python", "-m", "liquidgen.mend", check=True)
    assert done.stdout == ""
    return done.stderr


def test_what_a_killed_dvc_left_is_mended_and_nothing_runs_again(checkout: Checkout):
    lock = (checkout.root / LOCK).read_bytes()
    for name, left in leftovers(checkout):
        (checkout.root / name).write_bytes(left)
        assert checkout.run("dvc", "status").returncode != 0, left  # else there is nothing to mend
        said = mend(checkout)
        if name == LOCK:
            assert "dvc.lock was damaged" in said
            assert (checkout.root / ".dvc/tmp/dvc.lock.damaged").read_bytes() == left
    assert checkout.repro() == []
    assert (checkout.root / LOCK).read_bytes() == lock


def test_mending_leaves_sound_files_and_a_running_dvc_alone(checkout: Checkout):
    lock = (checkout.root / LOCK).read_bytes()
    program = [sys.executable, "-c", "input()", "repro", "train"]
    with subprocess.Popen(program, stdin=subprocess.PIPE) as dvc:
        entry = {"write": {}, "read": {"/a": [{"pid": dvc.pid, "cmd": "/bin/dvc repro train"}]}}
        (checkout.root / LIST).write_text(json.dumps(entry))
        assert mend(checkout) == ""
        assert json.loads((checkout.root / LIST).read_bytes()) == entry
        dvc.communicate(b"\n")
    assert mend(checkout) == ""
    assert not (checkout.root / LIST).exists()
    assert (checkout.root / LOCK).read_bytes() == lock


@pytest.mark.usefixtures("thorough")
def test_damaged_checkpoints_cost_a_warning_and_the_steps_since_the_one_before(
    checkout: Checkout, state: Path
):
    (path,) = [path for _, path in checkpoints(state)]
    damage(path)
    code, said = repro_train(checkout)
    assert code == 0, said
    assert f"{path.name}: damaged checkpoint, going back to step 0" in said
    assert re.search(r"train: 15 steps", said)


def test_a_checkpoint_folder_that_cannot_be_written_is_one_line_and_costs_nothing(
    checkout: Checkout, state: Path
):
    kept = state.with_name("kept")
    state.rename(kept)
    state.write_bytes(b"")  # in place of permissions, which do not bind root
    code, said = repro_train(checkout)
    assert code != 0
    assert "Traceback" not in said
    assert sum(line.startswith("error: ") for line in said.splitlines()) == 1, said
    state.unlink()
    kept.rename(state)
    code, said = repro_train(checkout)
    assert code == 0, said


@pytest.mark.usefixtures("thorough")
def test_a_full_disk_ends_a_training_in_one_line_and_it_goes_on_with_space(
    checkout: Checkout, tmp_path: Path
):
    small = tmp_path / "small"
    small.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(small)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("mounting a small tmpfs is not allowed here")
    try:
        work = checkout.root / "work/train"
        work.rename(tmp_path / "before")
        work.symlink_to(small)
        checkout.change(train__num_epochs=4, train__seed=1, train__checkpoint_every=1e-9)
        code, said = repro_train(checkout)
        assert code != 0
        assert "error: no space left on the disk" in said
        assert "Traceback" not in said
        subprocess.run(["mount", "-o", "remount,size=50m", str(small)], check=True)
        code, said = repro_train(checkout)
        assert code == 0, said
    finally:
        subprocess.run(["umount", "-l", str(small)], check=True)


@pytest.mark.usefixtures("thorough")
def test_two_dvc_at_once_train_once(checkout: Checkout):
    checkout.change(train__num_epochs=40)
    with checkout.start("dvc", "repro", "train") as first:
        folder = checkout.root / "work/train"
        while not list(folder.glob("*/epochs-40")):
            assert first.poll() is None
        code, said = repro_train(checkout)
        assert code != 0
        assert "is busy" in said
        first.communicate(timeout=200)
        assert first.returncode == 0
