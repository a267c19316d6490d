"""A training that cannot write fails with one line, and continues once it can."""

import os
import re
import resource
import shutil
import subprocess
from functools import partial
from pathlib import Path

import pytest
from helpers.checkout import Checkout
from helpers.faults.kills import run_repro
from helpers.faults.training import (
    FORCE_TRAIN,
    LAST_STEP,
    WITHOUT_DVC,
    checkpoint_contents,
    error_line,
    first_step,
    run_failing,
    state_folder,
    train,
    weights,
)

from liquidgen.stages.train.checkpoint import checkpoints

pytestmark = pytest.mark.fault("full disks, limits and read-only folders")

READ_ONLY = 'mount --bind "$0" "$0" && mount -o remount,ro,bind "$0" && exec "$@"'


def test_file_in_place_of_state_folder_is_one_line(trained: Checkout, finished: Checkout):
    state = state_folder(trained)
    state.rename(kept := state.with_name("kept"))
    state.write_bytes(b"")  # instead of permissions, which root ignores
    assert str(state) in error_line(*run_repro(trained, None, *FORCE_TRAIN))
    state.unlink()
    kept.rename(state)
    trained.run("dvc", "checkout", check=True)  # as the error line says
    assert weights(trained) == weights(finished)


@pytest.mark.usefixtures("thorough")
@pytest.mark.parametrize("command", [WITHOUT_DVC, ("dvc", "repro", *FORCE_TRAIN)], ids=" ".join)
@pytest.mark.parametrize("folder", ["work/train", "data/models", "metrics"])
def test_read_only_folder_is_one_line(
    folder: str, command: tuple[str, ...], trained: Checkout, finished: Checkout
):
    before = checkpoint_contents(state_folder(trained))
    # a read-only mount, unlike permissions, is not ignored for root
    in_namespace = ("unshare", "--mount", "sh", "-c", READ_ONLY, str(trained.root / folder))
    if not shutil.which("unshare") or trained.run(*in_namespace, "true").returncode:
        pytest.skip("a namespace with a read-only mount is not allowed here")
    done = trained.run(*in_namespace, *command)
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    ours = "error: no permission at "
    of_dvc = "ERROR: failed .* Read-only file system: '"
    assert re.search(rf"^({ours}|{of_dvc})\S*{folder}/", done.stderr, re.MULTILINE), done.stderr
    trained.run("dvc", "checkout", check=True)  # as our error line says
    assert weights(trained) == weights(finished)
    assert checkpoint_contents(state_folder(trained)).items() >= before.items()
    train(trained, *FORCE_TRAIN)
    assert weights(trained) == weights(finished)


@pytest.mark.usefixtures("thorough")
def test_full_disk_is_one_line(trained: Checkout, finished: Checkout, tmp_path: Path):
    small = tmp_path / "small"
    small.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(small)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("mounting a small tmpfs is not allowed here")
    try:
        shutil.rmtree(trained.root / "work/train")
        (trained.root / "work/train").symlink_to(small)
        assert "no space left on the disk" in error_line(*run_repro(trained, None, *FORCE_TRAIN))
        steps = [step for step, _ in checkpoints(state_folder(trained))]
        trained.run("dvc", "checkout", check=True)  # as the error line says
        assert weights(trained) == weights(finished)
        subprocess.run(["mount", "-o", "remount,size=50m", str(small)], check=True)
        assert first_step(train(trained, *FORCE_TRAIN)) == steps[-1]
        assert weights(trained) == weights(finished)
    finally:
        subprocess.run(["umount", "-l", str(small)], check=True)


@pytest.mark.usefixtures("thorough")
def test_file_size_limit_is_one_line(trained: Checkout, finished: Checkout):
    _, newest = checkpoints(state_folder(trained))[-1]
    size = newest.stat().st_size
    newest.unlink()
    before = checkpoint_contents(state_folder(trained))
    limit = partial(resource.setrlimit, resource.RLIMIT_FSIZE, (size // 2,) * 2)
    assert "no space left on the disk" in run_failing(
        trained, "dvc", "repro", *FORCE_TRAIN, preexec_fn=limit
    )
    assert checkpoint_contents(state_folder(trained)) == before
    assert first_step(train(trained, *FORCE_TRAIN)) == LAST_STEP - 1
    assert weights(trained) == weights(finished)
