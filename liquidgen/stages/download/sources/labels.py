"""Classes in the order of the settings, for sources with other orders and spellings."""

from liquidgen.utils.errors import UserError

OR = "|"  # between the names of one class, of which the first is used


def class_names(classes: list[str]) -> tuple[str, ...]:
    """Return the first name of each class, which is the one in use."""
    return tuple(entry.split(OR)[0] for entry in classes)


def spellings(classes: list[str]) -> list[str]:
    """Return all names of all classes."""
    return [name for entry in classes for name in entry.split(OR)]


def class_indices(source: object, names: list[str], classes: list[str]) -> dict[int, int]:
    """Map the labels of a source to classes.

    Args:
        source: Name of the source in messages.
        names: Names of the source's labels 0, 1, ...
        classes: The classes, with `|` between several names of one.

    Returns:
        The class by label.

    Raises:
        UserError: No class has one of the names.
    """
    known = {name: i for i, entry in enumerate(classes) for name in (entry, *entry.split(OR))}
    if unknown := [name for name in names if name not in known]:
        listed = ", ".join(map(repr, unknown[:5]))
        raise UserError(
            f"{source}: its labels name {listed}, which `classes` of the block lacks; add "
            f"them there (as `name{OR}other name` where a class has two), or set `classes: null`"
        )
    return {label: known[name] for label, name in enumerate(names)}
