"""Classes of the labels in a column: all of them, or those of the settings in their order."""

import logging
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any

from liquidgen.utils.errors import UserError
from liquidgen.utils.text import listed, nearest_names

log = logging.getLogger(__name__)
OR = "|"  # between the names of one class, of which the first is used


@dataclass(frozen=True)
class Labels:
    """Classes, and the class of each value of the label column.

    Attributes:
        classes: Names of the classes.
        class_of: Index of the class by value; other values have none.
    """

    classes: tuple[str, ...]
    class_of: dict[Any, int]


def class_names(classes: list[str]) -> tuple[str, ...]:
    """Return the first name of each class, which is the one in use."""
    return tuple(entry.split(OR)[0] for entry in classes)


def spellings(classes: list[str]) -> list[str]:
    """Return all names of all classes."""
    return [name for entry in classes for name in entry.split(OR)]


def choose_classes(
    source: object,
    names: Mapping[Any, str],
    classes: list[str] | None,
    used: set[Hashable] | None,
) -> Labels:
    """Choose the classes of a source.

    Classes without images are dropped with a warning: a model cannot learn what it never sees.

    Args:
        source: Name of the source in messages.
        names: Name by value of the label column.
        classes: The classes to take, with `|` between several names of one; None: all labels.
        used: The values that the column holds; None: unknown.

    Raises:
        UserError: A class that is not the name of any label.
    """
    if classes is None:
        labels = Labels(tuple(names.values()), {value: i for i, value in enumerate(names)})
    else:
        known = {name: i for i, entry in enumerate(classes) for name in (entry, *entry.split(OR))}
        class_of = {value: known[name] for value, name in names.items() if name in known}
        labels = Labels(class_names(classes), class_of)
        found = set(class_of.values())
        if absent := [entry for i, entry in enumerate(classes) if i not in found]:
            raise UserError(
                f"{source}: `classes` of the block has {listed(absent)}, but no label has this "
                f"name; {nearest_names(absent[0], names.values())}"
            )
    return labels if used is None else _without_unused(source, labels, used)


def _without_unused(source: object, labels: Labels, used: set[Hashable]) -> Labels:
    kept = sorted({i for value, i in labels.class_of.items() if value in used})
    if unused := [name for i, name in enumerate(labels.classes) if i not in kept]:
        log.warning("%s: no images of %s: not among the classes", source, listed(unused))
    place = {label: i for i, label in enumerate(kept)}
    return Labels(
        tuple(labels.classes[label] for label in kept),
        {value: place[label] for value, label in labels.class_of.items() if label in place},
    )
