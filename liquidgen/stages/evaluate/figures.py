"""What an evaluation shows: the samples nearest to training pictures, and accuracy by class."""

import csv
from collections.abc import Sequence
from pathlib import Path

from PIL import Image
from torch import Tensor

from liquidgen.figures.grid import class_grid
from liquidgen.stages.evaluate.scores import ProbeResult


def draw_neighbors(
    path: Path,
    *,
    samples: Sequence[Image.Image],
    neighbors: Sequence[Sequence[Image.Image]],
    ratios: Sequence[float],
) -> None:
    """Each sample at the left of its nearest training pictures.

    `ratios` are distances in medians of the holdout: below 1 is nearer than usual.
    """
    blank = Image.new("RGB", samples[0].size, "white")
    rows = [[sample, blank, *row] for sample, row in zip(samples, neighbors, strict=True)]
    class_grid(rows, [f"{ratio:.2f}" for ratio in ratios]).save(path)


def write_accuracies(
    folder: Path, classes: Sequence[str], accepted: dict[str, ProbeResult]
) -> None:
    """classes.csv and classes.png: the share of each class that is seen as its own class.

    A class without pictures has an empty field.
    """
    shares = {
        kind: [_share(seen[labels == label]) for label in range(len(classes))]
        for kind, (seen, labels) in accepted.items()
    }
    with open(folder / "classes.csv", "w", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["class", *shares])
        table.writerows(zip(classes, *shares.values(), strict=True))
    _draw_bars(folder / "classes.png", classes, shares)


def _share(seen: Tensor) -> float | None:
    return round(seen.float().mean().item(), 4) if len(seen) else None


def _draw_bars(path: Path, classes: Sequence[str], shares: dict[str, list]) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 1.5 + 0.45 * len(classes)), layout="constrained")
    axes = figure.subplots()
    thickness = 0.8 / len(shares)
    for number, (kind, values) in enumerate(shares.items()):
        places = [row + number * thickness for row in range(len(classes))]
        axes.barh(places, [value or 0 for value in values], thickness, label=kind)
    axes.set_yticks([row + 0.4 - thickness / 2 for row in range(len(classes))], classes)
    axes.invert_yaxis()
    axes.set(xlim=(0, 1), xlabel="share seen as their own class")
    figure.legend(loc="outside upper center", ncols=len(shares), frameon=False)
    figure.savefig(path)
