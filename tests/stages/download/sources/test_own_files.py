"""Folders as people have them: names in any language, links, splits, and files that are none."""

import os
import resource
from itertools import permutations
from pathlib import Path

import pytest
from helpers.small_data import SETTINGS, fill, folder, opened, png

from liquidgen.stages.download.sources import SOURCES, own_files
from liquidgen.utils.errors import UserError

pytestmark = pytest.mark.fault("folders as people have them")

PERSIAN = "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645"  # with a zero-width non-joiner
NAMES = [
    "Screenshot 2024-05-01 at 9.41.00\u202fAM.png",  # as macOS names them
    "a\u00a0b.png",
    "\u65e5\u672c\u3000\u8a9e.png",  # with an ideographic space
    "cafe\u0301.png",
    "\u200f\u05d0.png",
    "two\u2028lines.png",
    "\U0001f986.png",
    "\ufeffx.png",
]


@pytest.mark.parametrize("name", NAMES)
def test_names_in_utf_8_are_kept(name: str, tmp_path: Path):
    fill(tmp_path, [f"cat/{name}", f"{PERSIAN}/{name}"])
    source, records = opened(folder(tmp_path))
    assert source.classes == ("cat", PERSIAN)
    assert sorted(record.path for record in records) == [f"cat/{name}", f"{PERSIAN}/{name}"]
    assert not source.skipped.entries


@pytest.mark.parametrize(
    "name",
    [b"na\xefve.png", b"\xff.png", b"a\nb.png", b"\x1b[2J.png", b"\x7f.png", b"\xc2\x85.png"],
)
def test_other_names_are_skipped_by_name(name: bytes, tmp_path: Path):
    fill(tmp_path, ["cat/1.png"])
    path = os.path.join(os.fsencode(tmp_path), b"cat", name)
    Path(os.fsdecode(path)).write_bytes(png(1))
    source, records = opened(folder(tmp_path))
    assert [record.path for record in records] == ["cat/1.png"]
    assert source.skipped.entries == [(f"cat/{os.fsdecode(name)}", "unprintable_name")]


def test_linked_class_folders_are_classes(tmp_path: Path):
    """Two links to one folder, a link between classes, and one to a folder outside."""
    fill(tmp_path / "elsewhere", ["1.png", "deep/2.png"])
    fill(tmp_path / "own", ["cat/1.png"])
    for name in ("dog", "emu"):
        (tmp_path / "own" / name).symlink_to(tmp_path / "elsewhere")
    (tmp_path / "own/lion").symlink_to("cat")
    source, records = opened(folder(tmp_path / "own"))
    assert source.classes == ("cat", "dog", "emu", "lion")
    assert sorted(record.path for record in records) == [
        "cat/1.png",
        "dog/1.png",
        "dog/deep/2.png",
        "emu/1.png",
        "emu/deep/2.png",
        "lion/1.png",
    ]
    assert not source.skipped.entries


def test_circles_of_links_are_skipped_by_name(tmp_path: Path):
    fill(tmp_path, ["cat/1.png", "dog/1.png"])
    (tmp_path / "cat/up").symlink_to(tmp_path)
    (tmp_path / "cat/self").symlink_to(".")
    (tmp_path / "cat/dog").symlink_to("../dog")
    (tmp_path / "dog/cat").symlink_to("../cat")
    source, records = opened(folder(tmp_path))
    assert sorted(record.path for record in records) == [
        "cat/1.png",
        "cat/dog/1.png",
        "dog/1.png",
        "dog/cat/1.png",
    ]
    assert dict(source.skipped.entries) == dict.fromkeys(
        ["cat/up", "cat/self", "cat/dog/cat", "dog/cat/dog", "dog/cat/up", "dog/cat/self"],
        "circular_link",
    )


def test_folders_that_link_to_each_other_end(tmp_path: Path):
    """12 folders with links to all others have 12! ways through them."""
    names = [f"{i:02d}" for i in range(12)]
    fill(tmp_path, [f"{name}/1.png" for name in names])
    for name in names:
        for other in names:
            if other != name:
                (tmp_path / name / other).symlink_to(f"../{other}")
    with pytest.raises(UserError, match="links lead to this folder in more than 1000 ways; remove"):
        opened(folder(tmp_path))


def test_order_of_the_disk_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    fill(tmp_path / "own", ["b/1.png", "c/notes.txt"])
    (tmp_path / "own/a").symlink_to("b")
    (tmp_path / "own/b/c").symlink_to("../c")
    listdir = os.listdir
    found = []
    for order in permutations(range(3)):
        monkeypatch.setattr(
            own_files.os,
            "listdir",
            lambda path, order=order: [
                sorted(listdir(path))[i] for i in order if i < len(listdir(path))
            ],
        )
        source, records = opened(folder(tmp_path / "own"))
        found.append((source.classes, records, sorted(source.skipped.entries)))
    assert found == found[:1] * 6
    assert found[0][0] == ("a", "b")


@pytest.mark.parametrize(
    "names", [["train", "test"], ["train", "val", "test"], ["Training", "Validation"], ["test"]]
)
def test_splits_are_no_classes(names: list[str], tmp_path: Path):
    fill(tmp_path, [f"{name}/cat/1.png" for name in names])
    with pytest.raises(UserError, match=r"seem to be splits, not classes; set `path` to one"):
        opened(folder(tmp_path))
    assert len(opened(folder(tmp_path, labels="none"))[1]) == len(names)
    assert opened(folder(tmp_path / names[0]))[0].classes == ("cat",)


def test_the_largest_split_is_the_one_to_take(tmp_path: Path):
    fill(tmp_path, ["test/cat/1.png", "train/cat/1.png", "train/cat/2.png", "val/cat/1.png"])
    with pytest.raises(UserError, match=r"such as \S+/train, or"):
        opened(folder(tmp_path))


def test_class_named_like_a_split_beside_others_is_one(tmp_path: Path):
    fill(tmp_path, ["train/1.png", "bus/1.png", "test/1.png"])
    assert opened(folder(tmp_path))[0].classes == ("bus", "test", "train")


@pytest.mark.parametrize("beside", [[], ["README.txt"], ["__MACOSX/cat/._1.png", "loose.png"]])
def test_one_extra_root_folder_is_no_class(beside: list[str], tmp_path: Path):
    fill(tmp_path, ["pets/cat/1.png", "pets/dog/1.png", *beside])
    with pytest.raises(UserError, match=r"only subfolder .* 'pets', .*'cat', 'dog'.*/pets`"):
        opened(folder(tmp_path))
    assert opened(folder(tmp_path / "pets"))[0].classes == ("cat", "dog")


def test_one_class_with_images_of_its_own_is_a_class(tmp_path: Path):
    fill(tmp_path, ["cat/1.png", "cat/deep/2.png"])
    assert opened(folder(tmp_path))[0].classes == ("cat",)


def sparse(path: Path, size: int) -> None:
    with open(path, "wb") as file:
        file.truncate(size)


ODD = {
    "fifo": (os.mkfifo, "not_a_file"),
    "zeros without end": (lambda path: path.symlink_to("/dev/zero"), "not_a_file"),
    "random numbers": (lambda path: path.symlink_to("/dev/urandom"), "not_a_file"),
    "terminal": (lambda path: path.symlink_to("/dev/tty"), "not_a_file"),
    "kernel log": (lambda path: path.symlink_to("/proc/kmsg"), "empty_file"),
    "process": (lambda path: path.symlink_to("/proc/self/mem"), "empty_file"),
    "memory": (lambda path: path.symlink_to("/proc/kcore"), "too_large"),
    "2.2 GB": (lambda path: sparse(path, 2_200_000_000), "too_large"),
    "100 GB": (lambda path: sparse(path, 100_000_000_000), "too_large"),
    "over the limit": (lambda path: sparse(path, 1_000_001), "too_large"),
    "dangling link": (lambda path: path.symlink_to("nowhere"), "unreadable"),
    "link to itself": (lambda path: path.symlink_to(path), "unreadable"),
    "empty": (Path.touch, "empty_file"),
}


@pytest.mark.parametrize("name", ODD)
def test_odd_files_are_skipped_by_name(name: str, tmp_path: Path):
    make, reason = ODD[name]
    fill(tmp_path, ["cat/1.png", "dog/1.png"])
    make(tmp_path / "cat/x.png")
    small = SETTINGS.model_copy(update={"max_image_mb": 1})
    source, records = opened(folder(tmp_path), download=small)
    assert sorted(record.path for record in records) == ["cat/1.png", "dog/1.png"]
    if not (tmp_path / "cat/x.png").exists():  # no such file on this system
        reason = "unreadable"
    assert source.skipped.entries == [("cat/x.png", reason)]


def test_file_of_the_largest_size_is_taken(tmp_path: Path):
    fill(tmp_path, ["cat/1.png"])
    sparse(tmp_path / "cat/x.png", 1_000_000)
    small = SETTINGS.model_copy(update={"max_image_mb": 1})
    assert len(opened(folder(tmp_path), download=small)[1]) == 2


def test_too_many_open_files_are_told_and_not_skipped(tmp_path: Path):
    fill(tmp_path, ["cat/1.png", "dog/1.png"])
    source = SOURCES["folder"](folder(tmp_path), SETTINGS, 0)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
    try:
        with pytest.raises(UserError, match=r"1\.png: too many files are open; .*ulimit -n"):
            list(source.records)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
