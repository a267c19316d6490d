"""A training that cannot write ends in one line, and goes on when it can."""

import os
import re
import resource
import shutil
import subprocess
from functools import partial
from pathlib import Path

import pytest
from helpers.checkout import Checkout
from helpers.faults.kills import struck
from helpers.faults.training import (
    ANEW,
    BARE,
    STEPS,
    beginning,
    contents,
    refusal,
    refused,
    state_of,
    train,
    weights,
)

from liquidgen.stages.train.checkpoint import checkpoints

READ_ONLY = 'mount --bind "$0" "$0" && mount -o remount,ro,bind "$0" && exec "$@"'


def test_a_file_in_place_of_the_state_is_one_line_and_costs_nothing(
    trained: Checkout, finished: Checkout
):
    state = state_of(trained)
    state.rename(kept := state.with_name("kept"))
    state.write_bytes(b"")  # in place of permissions, which do not bind root
    assert str(state) in refusal(*struck(trained, None, *ANEW))
    state.unlink()
    kept.rename(state)
    trained.run("dvc", "checkout", check=True)  # as the line says
    assert weights(trained) == weights(finished)


@pytest.mark.usefixtures("thorough")
@pytest.mark.parametrize("command", [BARE, ("dvc", "repro", *ANEW)], ids=" ".join)
@pytest.mark.parametrize("folder", ["work/train", "data/models", "metrics"])
def test_a_folder_that_is_read_only_is_one_line_and_costs_nothing(
    folder: str, command: tuple[str, ...], trained: Checkout, finished: Checkout
):
    before = contents(state_of(trained))
    apart = ("unshare", "--mount", "sh", "-c", READ_ONLY, str(trained.root / folder))
    if not shutil.which("unshare") or trained.run(*apart, "true").returncode:
        pytest.skip("a namespace with a read-only mount is not allowed here")  # binds root, too
    done = trained.run(*apart, *command)
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    ours, of_dvc = "error: no permission at ", "ERROR: failed .* Read-only file system: '"
    assert re.search(rf"^({ours}|{of_dvc})\S*{folder}/", done.stderr, re.MULTILINE), done.stderr
    trained.run("dvc", "checkout", check=True)  # as our line says
    assert weights(trained) == weights(finished)
    assert contents(state_of(trained)).items() >= before.items()
    train(trained, *ANEW)
    assert weights(trained) == weights(finished)


@pytest.mark.usefixtures("thorough")
def test_without_space_a_training_ends_in_one_line_and_goes_on_with_space(
    trained: Checkout, finished: Checkout, tmp_path: Path
):
    small = tmp_path / "small"
    small.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(small)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("mounting a small tmpfs is not allowed here")
    try:
        shutil.rmtree(trained.root / "work/train")
        (trained.root / "work/train").symlink_to(small)
        assert "no space left on the disk" in refusal(*struck(trained, None, *ANEW))
        steps = [step for step, _ in checkpoints(state_of(trained))]
        trained.run("dvc", "checkout", check=True)  # as the line says
        assert weights(trained) == weights(finished)
        subprocess.run(["mount", "-o", "remount,size=50m", str(small)], check=True)
        assert beginning(train(trained, *ANEW)) == steps[-1]
        assert weights(trained) == weights(finished)
    finally:
        subprocess.run(["umount", "-l", str(small)], check=True)


@pytest.mark.usefixtures("thorough")
def test_a_file_that_may_not_grow_ends_a_training_in_one_line(
    trained: Checkout, finished: Checkout
):
    _, newest = checkpoints(state_of(trained))[-1]
    size = newest.stat().st_size
    newest.unlink()
    before = contents(state_of(trained))
    limit = partial(resource.setrlimit, resource.RLIMIT_FSIZE, (size // 2,) * 2)
    assert "no space left on the disk" in refused(trained, "dvc", "repro", *ANEW, preexec_fn=limit)
    assert contents(state_of(trained)) == before
    assert beginning(train(trained, *ANEW)) == STEPS - 1
    assert weights(trained) == weights(finished)
