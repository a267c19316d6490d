"""Figures and tables of an evaluation."""

import csv
from collections.abc import Sequence
from pathlib import Path

from PIL import Image
from torch import Tensor

from liquidgen.figures.grid import class_grid
from liquidgen.figures.names import display_names
from liquidgen.stages.evaluate.scores import ProbeResult

MAX_BARS = 60  # classes in classes.png; classes.csv has all


def draw_neighbors(
    path: Path,
    *,
    samples: Sequence[Image.Image],
    neighbors: Sequence[Sequence[Image.Image]],
    ratios: Sequence[float],
) -> None:
    """Draw each sample left of its nearest training images.

    Args:
        path: File of the figure.
        samples: Samples.
        neighbors: Training images of each sample.
        ratios: Copy ratio of each sample: its distance to the first neighbor over that to the last.
    """
    blank = Image.new("RGB", samples[0].size, "white")
    rows = [[sample, blank, *row] for sample, row in zip(samples, neighbors, strict=True)]
    class_grid(rows, [f"{ratio:.2f}" for ratio in ratios]).save(path)


def write_accuracies(folder: Path, classes: Sequence[str], results: dict[str, ProbeResult]) -> None:
    """Write classes.csv and classes.png: the accuracy of the probe per class and set of images.

    A class without images has an empty field.
    """
    accuracies = {
        name: [_accuracy(correct[labels == label]) for label in range(len(classes))]
        for name, (correct, labels) in results.items()
    }
    with open(folder / "classes.csv", "w", newline="", encoding="utf-8") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["class", *accuracies])
        table.writerows(zip(classes, *accuracies.values(), strict=True))
    _draw_bars(folder / "classes.png", classes, accuracies)


def _accuracy(correct: Tensor) -> float | None:
    return round(correct.float().mean().item(), 4) if len(correct) else None


def _draw_bars(path: Path, classes: Sequence[str], accuracies: dict[str, list]) -> None:
    """Draw the accuracies of the classes, or of the MAX_BARS classes with the lowest of samples."""
    from matplotlib.figure import Figure
    from matplotlib.font_manager import FontProperties

    names = display_names(classes)
    # classes without samples last
    worst = sorted(range(len(classes)), key=lambda row: _or_one(accuracies["samples"][row]))
    shown = sorted(worst[:MAX_BARS])
    figure = Figure(figsize=(7, 1.5 + 0.45 * len(shown)), layout="constrained")
    axes = figure.subplots()
    thickness = 0.8 / len(accuracies)
    for number, (name, values) in enumerate(accuracies.items()):
        positions = [row + number * thickness for row in range(len(shown))]
        axes.barh(positions, [values[row] or 0 for row in shown], thickness, label=name)
    middles = [row + 0.4 - thickness / 2 for row in range(len(shown))]
    # a name may hold two dollar signs: that is no formula
    axes.set_yticks(middles, [names[row].text for row in shown], parse_math=False)
    for label, row in zip(axes.get_yticklabels(), shown, strict=True):
        label.set_fontproperties(FontProperties(fname=names[row].font))
    axes.set(xlim=(0, 1), ylim=(len(shown), -0.4), xlabel="share classified as their own class")
    if len(shown) < len(classes):
        axes.set_title(
            f"{len(shown)} of {len(classes)} classes: those with the lowest share of samples"
        )
    figure.legend(loc="outside upper center", ncols=len(accuracies), frameon=False)
    figure.savefig(path)


def _or_one(accuracy: float | None) -> float:
    return 1.0 if accuracy is None else accuracy
