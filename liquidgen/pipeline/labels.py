"""Labels of the images that a call draws: the classes that it asks for, or mixtures of them."""

import math
import re
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from liquidgen.pipeline.arguments import several, whole
from liquidgen.utils.errors import UserError
from liquidgen.utils.text import nearest_names, shown

Class = str | int  # name or id
Asked = Class | Mapping[Class, float]  # a class, or the weights of several
Label = int | dict[int, float]  # the same, checked, by id; weights have the sum 1
# of the command line: NAME=WEIGHT,NAME=WEIGHT, where a name may have commas
_WEIGHT = re.compile(r"\s*(.+?)=((?:[0-9]*\.)?[0-9]+)(?:,|$)")


def resolve_labels(
    requested: Asked | Sequence[Asked] | None,
    num_images: int | None,
    classes: tuple[str, ...] | None,
    null_label: int,
) -> list[Label]:
    """Return the label of each image: those of the requested classes in turn.

    Args:
        requested: Names or ids of classes, or weights of classes to mix; None: all classes of the
            model. Where a class has the number as its name, 3 and "3" are that class, and else the
            id.
        num_images: None: one image per requested class.
        classes: Names of the model's classes; None: an unconditional model.
        null_label: The label of an unconditional model.

    Raises:
        UserError: A class is unknown, a weight is not usable, or there are no images to draw.
    """
    labels: list[Label]
    if requested is None:
        labels = list(range(len(classes))) if classes else [null_label]
    elif classes is None:
        raise UserError(
            f"class_labels: {shown(requested)}, but the model has no classes; leave them out"
        )
    else:
        asked = [requested] if isinstance(requested, Mapping) else several(requested)
        labels = [_label(one, classes) for one in asked]
    count = len(labels) if num_images is None else whole("num_images", num_images)
    if count < 1 or not labels:
        raise UserError(f"{count} images of {len(labels)} classes; ask for at least one")
    return [labels[number % len(labels)] for number in range(count)]


def label_tensor(labels: Sequence[Label], num_classes: int) -> Tensor:
    """Return labels (B,), or weights (B, num_classes + 1) where an image mixes classes."""
    ids = [label for label in labels if isinstance(label, int)]
    if len(ids) == len(labels):
        return torch.tensor(ids)
    weights = torch.zeros(len(labels), num_classes + 1)
    for row, label in zip(weights, labels, strict=True):
        for number, weight in ({label: 1.0} if isinstance(label, int) else label).items():
            row[number] = weight
    return weights


def label_name(label: Label, classes: tuple[str, ...] | None) -> str:
    """Return the name of a class, or `0.25 NAME + 0.75 NAME`; empty without classes."""
    if classes is None:
        return ""
    if isinstance(label, int):
        return classes[label]
    return " + ".join(f"{weight:.3g} {classes[number]}" for number, weight in label.items())


def read_class(text: str, classes: tuple[str, ...] | None) -> Asked:
    """Read a class as the command line has it: a name or id, or NAME=WEIGHT,NAME=WEIGHT.

    Raises:
        UserError: It is neither.
    """
    if "=" not in text or text in (classes or ()):
        return text
    weights: dict[Class, float] = {}
    end = 0
    while end < len(text):
        found = _WEIGHT.match(text, end)
        if not found or found[1] in weights:
            problem = "is named twice" if found else "must be NAME=WEIGHT"
            what = found[1] if found else text[end:]
            raise UserError(
                f"class {shown(what)}: {problem}; a class is a name or id, a mixture "
                "NAME=WEIGHT,NAME=WEIGHT"
            )
        weights[found[1]] = float(found[2])
        end = found.end()
    return weights


def _label(asked: object, classes: tuple[str, ...]) -> Label:
    if not isinstance(asked, Mapping):
        return _id(asked, classes)
    weights: dict[int, float] = {}
    for name, weight in asked.items():
        number = _id(name, classes)
        weights[number] = weights.get(number, 0.0) + _weight(name, weight)
    total = sum(weights.values())
    if not 0 < total < math.inf:
        raise UserError(f"class_labels: {shown(dict(asked))}; the weights' sum must be above 0")
    shares = {number: weight / total for number, weight in weights.items() if weight}
    return shares if len(shares) > 1 else next(iter(shares))


def _weight(name: object, value: object) -> float:
    try:
        weight = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        weight = math.nan
    if not 0 <= weight < math.inf:
        raise UserError(f"class {shown(name)}: weight {shown(value)}; must be a number from 0 on")
    return weight


def _id(name: object, classes: tuple[str, ...]) -> int:
    text = name if isinstance(name, str) else str(whole("class", name))
    if text in classes:
        return classes.index(text)
    # the length bounds what int() takes
    if text.isdecimal() and len(text) < 10 and int(text) < len(classes):
        return int(text)
    known = f"choose 0 to {len(classes) - 1}, or a name: {nearest_names(text, classes)}"
    raise UserError(f"class {shown(name)}: not known; {known}")
