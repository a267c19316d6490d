"""skipped.csv: every file that was left out, by its path and the reason."""

import csv
import os
from pathlib import Path

from liquidgen.images.skipped import SkippedImages
from liquidgen.utils.files import SKIPPED


def test_table_is_read_as_it_was_written(tmp_path):
    skipped = SkippedImages()
    skipped.add("dog/b, c.png", "empty_file")
    skipped.add('cat/"a".png', "hidden")
    skipped.write(tmp_path)
    assert SkippedImages.read(tmp_path).entries == sorted(skipped.entries)
    assert skipped.counts == {"empty_file": 1, "hidden": 1}
    with open(tmp_path / SKIPPED, encoding="utf-8") as file:
        assert file.readline() == "path,reason\n"


def test_order_of_the_table_is_that_of_the_paths(tmp_path):
    for name, entries in (("a", [("x", "r"), ("b", "s")]), ("b", [("b", "s"), ("x", "r")])):
        (tmp_path / name).mkdir()
        SkippedImages(entries).write(tmp_path / name)
    assert (tmp_path / "a" / SKIPPED).read_bytes() == (tmp_path / "b" / SKIPPED).read_bytes()


def test_names_that_are_no_text_are_escaped(tmp_path):
    names = [
        os.fsdecode(b"\xff.png"),
        "a\nb.png",
        "\x1b[2J.png",
        "日本\u3000.png",
        "\u0645\u06cc\u200c\u062e.png",
    ]
    SkippedImages((name, "x") for name in names).write(tmp_path)
    with open(tmp_path / SKIPPED, encoding="utf-8", newline="") as file:
        found = {row["path"] for row in csv.DictReader(file)}
    assert found == {
        r"\xff.png",
        r"a\nb.png",
        r"\x1b[2J.png",
        "日本\u3000.png",
        "\u0645\u06cc\u200c\u062e.png",
    }


def test_without_entries_there_is_no_file(tmp_path):
    SkippedImages().write(tmp_path)
    assert not any(tmp_path.iterdir())
    assert SkippedImages.read(tmp_path).examples(tmp_path) == ""


def test_examples_name_one_file_of_each_reason():
    skipped = SkippedImages([("a.png", "hidden"), ("b.png", "hidden"), ("c\n.png", "empty_file")])
    assert skipped.examples(Path("data")) == (
        r"; data/skipped.csv lists them: 'c\n.png' (empty_file), 'a.png' (hidden) and 1 more"
    )
