"""Files that a killed DVC leaves half-written, and `liquidgen repair`."""

import json
import os
import subprocess
import sys

import pytest
from helpers.checkout import Checkout
from helpers.faults.kills import run_repro

pytestmark = pytest.mark.fault("files that a killed DVC leaves")


@pytest.mark.usefixtures("thorough")
def test_rwlock_entry_of_dead_dvc_is_skipped(checkout: Checkout):
    checkout.change(train__num_epochs=3)
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    (model,) = (checkout.root / "data/models").iterdir()
    entry = {"write": {str(model): {"pid": dead.pid, "cmd": "dvc repro"}}, "read": {}}
    (checkout.root / ".dvc/tmp/rwlock").write_text(json.dumps(entry))
    code, output = run_repro(checkout, None, "train")
    assert code == 0, output


LOCK = "dvc.lock"
RWLOCK = ".dvc/tmp/rwlock"


def leftovers(checkout: Checkout) -> list[tuple[str, bytes]]:
    """Contents of files that a kill can leave, and at which DVC stops.

    The last is an rwlock whose process has ended, and whose ID another program has now.
    """
    whole = (checkout.root / LOCK).read_bytes()
    (model,) = (checkout.root / "data/models").iterdir()
    reused = {"write": {str(model): {"pid": os.getpid(), "cmd": "dvc repro train"}}, "read": {}}
    return [
        (LOCK, b""),
        (LOCK, whole[: whole.index(b"schema") + 3]),
        (LOCK, whole[: whole.index(b"hash") + 2]),
        (RWLOCK, b""),
        (RWLOCK, b'{"write": {"/data/mod'),
        (RWLOCK, json.dumps(reused).encode()),
    ]


def repair(checkout: Checkout) -> str:
    done = checkout.run("python", "-m", "liquidgen", "repair", check=True)
    assert done.stdout == ""
    return done.stderr


def test_repair_clears_leftovers_and_nothing_runs_again(checkout: Checkout):
    lock = (checkout.root / LOCK).read_bytes()
    for name, left in leftovers(checkout):
        (checkout.root / name).write_bytes(left)
        assert checkout.run("dvc", "status").returncode != 0, left  # DVC stops at it
        output = repair(checkout)
        assert len(output.splitlines()) == 1
        assert str(checkout.root / name) in output
        if name == LOCK:
            assert (checkout.root / ".dvc/tmp/dvc.lock.damaged").read_bytes() == left
    assert checkout.repro() == []
    assert (checkout.root / LOCK).read_bytes() == lock


def test_repair_leaves_whole_files_and_running_dvc_alone(checkout: Checkout):
    lock = (checkout.root / LOCK).read_bytes()
    program = [sys.executable, "-c", "input()", "repro", "train"]
    with subprocess.Popen(program, stdin=subprocess.PIPE) as dvc:
        entry = {"write": {}, "read": {"/a": [{"pid": dvc.pid, "cmd": "/bin/dvc repro train"}]}}
        (checkout.root / RWLOCK).write_text(json.dumps(entry))
        assert "outputs were not checked" in repair(checkout)
        assert json.loads((checkout.root / RWLOCK).read_bytes()) == entry
        dvc.communicate(b"\n")
    assert "rwlock named no running DVC process" in repair(checkout)
    assert not (checkout.root / RWLOCK).exists()
    assert "nothing to do" in repair(checkout)
    assert (checkout.root / LOCK).read_bytes() == lock
