"""What a call of a pipeline asks for: labels, seeds and counts, checked before it draws."""

import math
from collections.abc import Sequence

from liquidgen.flow.draw import Seed
from liquidgen.utils.errors import UserError

Class = str | int


def labels_of(
    asked: Class | Sequence[Class] | None,
    num_images: int | None,
    classes: tuple[str, ...] | None,
    null_label: int,
) -> list[int]:
    """The label of each image: those of the asked classes in turn, None: of all in `classes`.

    Raises UserError for unknown classes, and for no images at all.
    """
    if classes is None and asked is not None:
        raise UserError(f"classes: {asked!r}, but the model has no classes; leave them out")
    if asked is None:
        labels = list(range(len(classes))) if classes else [null_label]
    else:
        several = [asked] if isinstance(asked, Class) else asked
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


def seeds_of(seed: int | Sequence[int | Seed], num_images: int) -> list[Seed]:
    """The seed of each image: (seed, its number), or the given one.

    Raises UserError for another number of seeds than of images, and for negative ones.
    """
    given = [seed] if isinstance(seed, int) else seed
    seeds = [(one, 0) if isinstance(one, int) else tuple(one) for one in given]
    for one, parts in zip(given, seeds, strict=True):
        if min(parts) < 0:
            raise UserError(f"seed: {one}; must be at least 0")
    if isinstance(seed, int):
        return [(seed, number) for number in range(num_images)]
    if len(seeds) != num_images:
        raise UserError(f"seed: {len(seeds)} of them for {num_images} images; give one an image")
    return seeds


def check_counts(**least_one: float) -> None:
    """Refuse, by its name, what is below 1 or not finite."""
    for name, value in least_one.items():
        if not value >= 1:  # NaN fails, too
            raise UserError(f"{name}: {value}; must be at least 1")
        if not math.isfinite(value):
            raise UserError(f"{name}: {value}; must be finite")
