"""Replacement of a folder: the earlier or the whole new one, and one process at a time."""

import os
import re
import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from filelock import Timeout

from liquidgen.utils.errors import UserError
from liquidgen.utils.files import atomic, locked, new_folder

HOLD = """
import sys
from pathlib import Path
from liquidgen.utils.files import new_folder

with new_folder(Path(sys.argv[1])) as temporary:
    (temporary / "theirs").touch()
    print("ready", flush=True)
    sys.stdin.readline()
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with earlier content."""
    path = tmp_path / "out"
    path.mkdir()
    (path / "earlier").touch()
    return path


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_new_folder_replaces_the_earlier_one(folder: Path):
    with new_folder(folder) as temporary:
        (temporary / "new").touch()
        assert names(folder) == ["earlier"]
    assert names(folder) == ["new"]
    assert names(folder.parent) == ["out"]


def test_new_folder_creates_its_parents(tmp_path: Path):
    with new_folder(tmp_path / "a" / "b" / "out") as temporary:
        (temporary / "new").touch()
    assert names(tmp_path / "a" / "b") == ["out"]


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
@pytest.mark.parametrize("failing", [1, 2])
def test_failed_replacement_leaves_the_earlier_folder(
    folder: Path, monkeypatch: pytest.MonkeyPatch, failing: int, error: type[BaseException]
):
    replace, calls = os.replace, []

    def fails_once(source: Path, target: Path) -> None:
        calls.append(source)
        if len(calls) == failing:
            raise error("as asked")
        replace(source, target)

    monkeypatch.setattr(os, "replace", fails_once)
    with pytest.raises(error, match="as asked"), new_folder(folder) as temporary:
        (temporary / "new").touch()
    assert names(folder) == ["earlier"]
    assert names(folder.parent) == ["out"]


def test_kill_between_the_renames_is_undone(folder: Path):
    folder.rename(folder.with_name(".out.old"))
    folder.with_name(".out.tmp").mkdir()
    folder.with_name(".out.lock").touch()
    with new_folder(folder) as temporary:
        assert names(folder) == ["earlier"]
        (temporary / "new").touch()
    assert names(folder) == ["new"]
    assert names(folder.parent) == ["out"]


def test_concurrent_process_is_refused(folder: Path):
    command = [sys.executable, "-c", HOLD, str(folder)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, text=True, **pipes) as process:
        assert process.stdout.readline() == "ready\n"
        with (
            pytest.raises(UserError, match="out: another process fills this folder; wait for it"),
            new_folder(folder),
        ):
            pass
        process.communicate("\n")
    assert process.returncode == 0
    assert names(folder) == ["theirs"]
    assert names(folder.parent) == ["out"]


def test_locked_passes_on_errors_of_its_body(tmp_path: Path):
    with pytest.raises(Timeout, match="another"), locked(tmp_path / "out", "works here"):
        raise Timeout("another")
    assert names(tmp_path) == []


def test_content_is_flushed_before_the_rename(folder: Path, monkeypatch: pytest.MonkeyPatch):
    calls: list[str] = []
    fsync, replace = os.fsync, os.replace

    def noted_fsync(descriptor: int) -> None:
        calls.append(f"fsync {os.readlink(f'/proc/self/fd/{descriptor}')}")
        fsync(descriptor)

    def noted_replace(source: Path, target: Path) -> None:
        calls.append(f"{source} -> {target}")
        replace(source, target)

    monkeypatch.setattr(os, "fsync", noted_fsync)
    monkeypatch.setattr(os, "replace", noted_replace)
    with atomic(folder / "file") as file:
        file.write(b"x")
        temporary = file.name
    assert calls == [f"fsync {temporary}", f"{temporary} -> {folder}/file", f"fsync {folder}"]
    calls.clear()
    with new_folder(folder) as temporary:
        (temporary / "below").mkdir()
        (temporary / "below/file").write_bytes(b"x")
    *synced, _, renamed, named = calls
    inside = [temporary / "below", temporary / "below/file", temporary]
    assert sorted(synced) == sorted(f"fsync {path}" for path in inside)
    assert (renamed, named) == (f"{temporary} -> {folder}", f"fsync {folder.parent}")


@pytest.mark.parametrize("target", ["elsewhere", "nowhere"])
def test_link_in_place_of_the_folder_is_refused(target: str, tmp_path: Path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "theirs").touch()
    (tmp_path / "out").symlink_to(target)
    with pytest.raises(UserError, match=r"out: is a link, but .*; remove the link"):
        new_folder(tmp_path / "out").__enter__()
    assert names(tmp_path / "elsewhere") == ["theirs"]
    assert names(tmp_path) == ["elsewhere", "out"]


@pytest.mark.parametrize("planted", [".out.tmp", ".out.old"])
def test_planted_link_is_removed_and_not_followed(planted: str, folder: Path):
    theirs = folder.parent / "theirs"
    theirs.mkdir()
    (theirs / "file").touch()
    (folder.parent / planted).symlink_to(theirs)
    with new_folder(folder) as temporary:
        (temporary / "new").touch()
    assert names(folder) == ["new"]
    assert names(theirs) == ["file"]
    assert names(folder.parent) == ["out", "theirs"]


@contextmanager
def small_disk(size: int) -> Iterator[None]:
    """Let no file grow beyond a size, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_full_disk_names_the_file_and_the_bytes_it_needs(tmp_path: Path):
    path = tmp_path / "weights"

    def write() -> None:
        with small_disk(1000), atomic(path) as file:
            file.write(bytes(300))
            file.write(bytes(5_000_000))

    with pytest.raises(OSError, match="weights") as full:
        write()
    assert full.value.filename == str(path)
    [note] = full.value.__notes__
    assert re.match(r"it needs 5000300 bytes, \d+ free$", note)
    assert names(tmp_path) == []


def test_full_disk_names_the_folder_and_the_bytes_it_needs(folder: Path):
    def write() -> None:
        with small_disk(1000), new_folder(folder) as new:
            (new / "first").write_bytes(bytes(900))
            (new / "second").write_bytes(bytes(5000))

    with pytest.raises(OSError, match="out") as full:
        write()
    assert full.value.filename == str(folder)
    [note] = full.value.__notes__
    assert re.match(r"it needs more than 1900 bytes, \d+ free$", note)
    assert names(folder) == ["earlier"]
