"""What a killed DVC leaves half-written, and how `liquidgen.cli.repair` clears it away."""

import json
import os
import subprocess
import sys

import pytest
from helpers.checkout import Checkout
from helpers.faults.kills import run_repro


@pytest.mark.usefixtures("thorough")
def test_a_lock_entry_of_a_dead_dvc_is_passed_over(checkout: Checkout):
    checkout.change(train__num_epochs=3)
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    (model,) = (checkout.root / "data/models").iterdir()
    entry = {"write": {str(model): {"pid": dead.pid, "cmd": "dvc repro"}}, "read": {}}
    (checkout.root / ".dvc/tmp/rwlock").write_text(json.dumps(entry))
    code, said = run_repro(checkout, None, "train")
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
    done = checkout.run("python", "-m", "liquidgen.cli.repair", check=True)
    assert done.stdout == ""
    return done.stderr


def test_what_a_killed_dvc_left_is_mended_and_nothing_runs_again(checkout: Checkout):
    lock = (checkout.root / LOCK).read_bytes()
    for name, left in leftovers(checkout):
        (checkout.root / name).write_bytes(left)
        assert checkout.run("dvc", "status").returncode != 0, left  # else there is nothing to mend
        said = mend(checkout)
        assert len(said.splitlines()) == 1
        assert str(checkout.root / name) in said
        if name == LOCK:
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
    assert "rwlock named no DVC that is running" in mend(checkout)
    assert not (checkout.root / LIST).exists()
    assert mend(checkout) == ""
    assert (checkout.root / LOCK).read_bytes() == lock
