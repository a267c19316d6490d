"""Validates the arguments of `LiquidGenPipeline`: words of diffusers, and what they may be."""

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from operator import index

import torch

from liquidgen.generator.draw import Seed
from liquidgen.utils.errors import UserError
from liquidgen.utils.text import nearest_names, shown

OUTPUT_TYPES = ("pil", "np", "pt", "latent")
DTYPES = (torch.float32, torch.bfloat16, torch.float16)
VARIANTS = {"fp16": torch.float16, "bf16": torch.bfloat16}  # names of files, as in diffusers
# arguments of earlier versions, and of other pipelines of diffusers, and what to do instead
OTHER_WORDS = {
    "classes": "use class_labels",
    "num_steps": "use num_inference_steps",
    "prompt": "use class_labels",
    "num_images_per_prompt": "use num_images",
    "solver": "set pipe.scheduler = scheduler_of('heun'), from liquidgen.flow.solvers",
}


def refuse_others(others: Mapping[str, object], known: Collection[str]) -> None:
    """Refuse arguments that a call does not have.

    Args:
        others: Arguments by name.
        known: Names of the arguments that the call has.

    Raises:
        UserError: There are some; the message says what to use.
    """
    for name in others:
        remedy = OTHER_WORDS.get(name) or nearest_names(name, known)
        raise UserError(f"{name}: unknown argument; {remedy}")


def one_of(name: str, value: object, known: Collection) -> None:
    """Refuse a value that is none of the known ones.

    Raises:
        UserError: It is none; the message has the name.
    """
    if value not in known:
        choice = ", ".join(map(str, known))
        raise UserError(f"{name}: {shown(value)}; must be one of {choice}")


def several(value: object) -> list:
    """Return a list of what is one value or several, such as in an array."""
    single = isinstance(value, str) or getattr(value, "ndim", None) == 0
    return [value] if single or not isinstance(value, Iterable) else list(value)


def resolve_seeds(seed: int | Sequence[int | Seed], num_images: int) -> list[Seed]:
    """Return the seed of each image.

    Args:
        seed: A number s for the seeds (s, 0), (s, 1), ...; or one seed per image, of which s stands
            for (s, 0).
        num_images: Number of images.

    Raises:
        UserError: The number of seeds is not that of the images, or a seed is negative or no whole
            number.
    """
    if not isinstance(seed, Iterable) or getattr(seed, "ndim", None) == 0:
        first = _seed(seed)
        return [(first, number) for number in range(num_images)]
    seeds = []
    for one in several(seed):
        parts = several(one)
        if len(parts) not in (1, 2):
            raise UserError(f"seed: {shown(one)}; must be a number, or a pair of numbers")
        first, number = (*map(_seed, parts), 0)[:2]
        seeds.append((first, number))
    if len(seeds) != num_images:
        raise UserError(f"seed: {len(seeds)} of them for {num_images} images; give one per image")
    return seeds


def _seed(value: object) -> int:
    number = whole("seed", value)
    if number < 0:
        raise UserError(f"seed: {number}; must be at least 0")
    return number


def whole(name: str, value: object) -> int:
    """Return a whole number of any type, also of numpy and torch, as an int.

    Raises:
        UserError: It is none; the message has the name.
    """
    try:
        if "bool" in str(getattr(value, "dtype", type(value))):  # True would be 1
            raise TypeError
        return index(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        raise UserError(f"{name}: {shown(value)}; must be a whole number") from None


def at_least_one(name: str, value: object) -> float:
    """Return a number of any type that is finite and at least 1, as a float.

    Raises:
        UserError: It is none; the message has the name.
    """
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        raise UserError(f"{name}: {shown(value)}; must be a number") from None
    if not number >= 1:  # also refuses NaN
        raise UserError(f"{name}: {number:g}; must be at least 1")
    if not math.isfinite(number):
        raise UserError(f"{name}: {number:g}; must be finite")
    return number
