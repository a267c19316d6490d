"""The chart of the accuracies per class."""

import csv
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from liquidgen.stages.evaluate.figures import write_accuracies
from liquidgen.stages.evaluate.scores import ProbeResult


def write(folder: Path, classes: list[str]) -> Image.Image:
    """Write the accuracies of 4 images per class, where class i % 5 == 0 has none right."""
    labels = torch.arange(len(classes)).repeat_interleave(4)
    results = {name: ProbeResult(labels % 5 > 0, labels) for name in ("samples", "holdout")}
    write_accuracies(folder, classes, results)
    with Image.open(folder / "classes.png") as image:
        image.load()
    return image


NAMES = [
    "$x$",
    "$\\foo$",
    "$x^{$",
    "a $ b",
    "$$",
    "\\frac{1}{2}",
    "猫",
    "گربه",
    "a" * 5000,
    "",
    " ",
]


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_odd_names_are_drawn(tmp_path: Path, name: str):
    image = write(tmp_path, [name, "cat"])
    assert image.width < 1000
    rows = list(csv.reader((tmp_path / "classes.csv").read_text().splitlines()))
    assert [row[0] for row in rows[1:]] == [name, "cat"]


def margin(image: Image.Image) -> int:
    """Return the width left of the axes, whose edge is the first column that is mostly black."""
    dark = np.asarray(image.convert("L")) < 100
    return int((dark.mean(0) > 0.5).argmax())


def test_dollars_are_drawn(tmp_path: Path):
    assert margin(write(tmp_path, ["$WWW$", "cat"])) > margin(write(tmp_path, ["WWW", "cat"])) + 10


def test_chart_of_1000_classes_shows_the_lowest(tmp_path: Path):
    start = time.process_time()
    image = write(tmp_path, [f"class {i}" for i in range(1000)])
    assert time.process_time() - start < 30
    assert image.height < 3000
    below_legend = image.convert("RGB").crop((0, 60, *image.size))
    colors = {color for _, color in below_legend.getcolors(2**24)}
    assert (31, 119, 180) not in colors  # none of the classes that are shown has a bar
    assert len((tmp_path / "classes.csv").read_text().splitlines()) == 1001
