"""`liquidgen repair` agrees with DVC on which files are damaged, and respects DVC's locks."""

from pathlib import Path

import pytest
from dvc.dvcfile import Lockfile
from dvc.exceptions import DvcException
from dvc.lock import make_lock
from dvc.utils import strictyaml

from liquidgen.cli.health import repair as module
from liquidgen.cli.health.repair import DVC_LOCK, GUARDS, RWLOCK, is_whole_lock, repair

LOCK = """\
schema: '2.0'
stages:
  train:
    cmd: python -m stages.train
    deps:
    - path: data
      hash: md5
      md5: 1234567890.dir
      size: 1234
      nfiles: 3
    params:
      params.yaml:
        max_images:
        train:
          betas:
          - 0.9
    outs:
    - path: train.json
      isexec: true
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder that DVC has worked in."""
    (tmp_path / ".dvc/tmp").mkdir(parents=True)
    return tmp_path


def accepted_by_dvc(path: Path) -> bool:
    try:
        return bool(strictyaml.load(str(path), Lockfile.SCHEMA))
    except DvcException:
        return False


def test_dvc_lock_is_not_whole_wherever_dvc_stops_at_it(tmp_path: Path):
    """Truncated at any byte."""
    path = tmp_path / DVC_LOCK
    refused = 0
    for size in range(len(LOCK)):
        path.write_text(LOCK[:size])
        if not accepted_by_dvc(path):
            refused += 1
            assert not is_whole_lock(path), LOCK[:size]
    assert refused > 100
    path.write_text(LOCK)
    assert accepted_by_dvc(path)
    assert is_whole_lock(path)


@pytest.mark.parametrize("content", ["<<<<<<< ours\n", "[]\n", "\n", "\x00\n"])
def test_dvc_lock_with_other_content_is_not_whole(content: str, tmp_path: Path):
    (tmp_path / DVC_LOCK).write_text(content)
    assert not is_whole_lock(tmp_path / DVC_LOCK)


@pytest.mark.parametrize("guard", GUARDS, ids=str)
def test_files_are_left_alone_while_dvc_holds_its_lock(
    guard: Path, root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
):
    """A file that looks truncated may be being written."""
    monkeypatch.setattr(module, "GUARD_TIMEOUT", 0.1)
    (root / DVC_LOCK).write_text("sche")
    (root / RWLOCK).write_text("{")
    with make_lock(str(root / guard), tmp_dir=str(root / ".dvc/tmp")):
        repair(root)
    assert capsys.readouterr().err == f"DVC is running in {root}, nothing was changed\n"
    assert (root / DVC_LOCK).read_text() == "sche"
    assert (root / RWLOCK).read_text() == "{"
    repair(root)
    assert not (root / DVC_LOCK).exists()
    assert not (root / RWLOCK).exists()
    with make_lock(str(root / guard), tmp_dir=str(root / ".dvc/tmp")):
        pass  # DVC can take it afterwards


def test_fresh_checkout_needs_no_repair(tmp_path: Path, capsys: pytest.CaptureFixture):
    (tmp_path / ".dvc").mkdir()
    repair(tmp_path)
    assert capsys.readouterr() == ("", "repair: nothing to do, all outputs are as recorded\n")
