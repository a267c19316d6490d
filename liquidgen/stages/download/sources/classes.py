"""Classes in an order of our own, so that sources with other orders and spellings agree."""

from liquidgen.utils.errors import UserError

OR = "|"  # between the names of one class, of which the first is used


def class_names(classes: list[str]) -> tuple[str, ...]:
    """The names that are used: the first of each."""
    return tuple(entry.split(OR)[0] for entry in classes)


def spellings(classes: list[str]) -> list[str]:
    """All names of all classes."""
    return [name for entry in classes for name in entry.split(OR)]


def class_indices(place: object, names: list[str], classes: list[str]) -> dict[int, int]:
    """Label of a source -> class: `names` are the source's, by label.

    Raises:
        UserError: a name that no class has.
    """
    known = {name: i for i, entry in enumerate(classes) for name in (entry, *entry.split(OR))}
    if unknown := [name for name in names if name not in known]:
        listed = ", ".join(map(repr, unknown[:5]))
        raise UserError(
            f"{place}: its labels name {listed}, which `classes` of the block lacks; add "
            f"them there (as `name{OR}other name` where a class has two), or set `classes: null`"
        )
    return {label: known[name] for label, name in enumerate(names)}
