"""Validates the arguments of `LiquidGenPipeline.__call__`."""

import math
from collections.abc import Sequence

from liquidgen.generator.draw import Seed
from liquidgen.utils.errors import UserError

Class = str | int  # name or id


def resolve_labels(
    requested: Class | Sequence[Class] | None,
    num_images: int | None,
    classes: tuple[str, ...] | None,
    null_label: int,
) -> list[int]:
    """Return the label of each image: those of the requested classes in turn.

    Args:
        requested: Names or ids of classes; None: all classes of the model.
        num_images: None: one image per requested class.
        classes: Names of the model's classes; None: an unconditional model.
        null_label: The label of an unconditional model.

    Raises:
        UserError: A class is unknown, or there are no images to draw.
    """
    if requested is None:
        labels = list(range(len(classes))) if classes else [null_label]
    elif classes is None:
        raise UserError(f"classes: {requested!r}, but the model has no classes; leave them out")
    else:
        several = [requested] if isinstance(requested, Class) else requested
        labels = [_label(one, classes) for one in several]
    num_images = len(labels) if num_images is None else num_images
    if num_images < 1 or not labels:
        raise UserError(f"{num_images} images of {len(labels)} classes; ask for at least one")
    return [labels[number % len(labels)] for number in range(num_images)]


def _label(name: Class, classes: tuple[str, ...]) -> int:
    if isinstance(name, str) and name in classes:
        return classes.index(name)
    if isinstance(name, int) and 0 <= name < len(classes):
        return name
    known = f"choose 0 to {len(classes) - 1}, or one of {', '.join(classes)}"
    raise UserError(f"class {name!r}: not known; {known}")


def resolve_seeds(seed: int | Sequence[int | Seed], num_images: int) -> list[Seed]:
    """Return the seed of each image.

    Args:
        seed: A number s for the seeds (s, 0), (s, 1), ...; or one seed per image, of which s stands
            for (s, 0).
        num_images: Number of images.

    Raises:
        UserError: The number of seeds is not that of the images, or a seed is negative.
    """
    given = [seed] if isinstance(seed, int) else seed
    seeds = [(one, 0) if isinstance(one, int) else one for one in given]
    for one, parts in zip(given, seeds, strict=True):
        if min(parts) < 0:
            raise UserError(f"seed: {one}; must be at least 0")
    if isinstance(seed, int):
        return [(seed, number) for number in range(num_images)]
    if len(seeds) != num_images:
        raise UserError(f"seed: {len(seeds)} of them for {num_images} images; give one per image")
    return seeds


def check_at_least_one(**values: float) -> None:
    """Raise UserError, with the name, for a value that is below 1 or not finite."""
    for name, value in values.items():
        if not value >= 1:  # also refuses NaN
            raise UserError(f"{name}: {value}; must be at least 1")
        if not math.isfinite(value):
            raise UserError(f"{name}: {value}; must be finite")
