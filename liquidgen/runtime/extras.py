"""Checks that the packages of an extra are installed, before work that needs them."""

from collections.abc import Iterator
from importlib import metadata
from typing import TYPE_CHECKING

from liquidgen.utils.errors import UserError

if TYPE_CHECKING:
    from packaging.requirements import Requirement

PACKAGE = "liquidgen"
OUTDATED = "this installation is older than its code: `pip install -e .` updates it"


def require_extra(extra: str) -> None:
    """Refuse work whose packages are not installed.

    Args:
        extra: Name of an extra of LiquidGen, such as `pipeline`.

    Raises:
        UserError: A package of it is missing, or the installation is older than the extra.
    """
    if extra not in (metadata.metadata(PACKAGE).get_all("Provides-Extra") or ()):
        raise UserError(OUTDATED)
    missing = list(missing_packages(extra))
    if missing:
        raise UserError(
            f"{', '.join(missing)}: not installed; run `pip install '{PACKAGE}[{extra}]'`"
        )


def missing_packages(extra: str) -> Iterator[str]:
    """Yield the names of an extra's packages that are not installed, as pyproject.toml has them."""
    for requirement in requirements(extra):
        try:
            metadata.version(requirement.name)
        except metadata.PackageNotFoundError:
            yield requirement.name


def requirements(extra: str = "") -> "list[Requirement]":
    """Return the requirements of an extra of LiquidGen or, without a name, those of its core.

    Raises:
        PackageNotFoundError: LiquidGen is not installed.
    """
    # not at the top: this module is also imported where only the core is installed
    from packaging.requirements import Requirement

    declared = [Requirement(line) for line in metadata.requires(PACKAGE) or []]
    return [
        one
        for one in declared
        if (not extra if one.marker is None else one.marker.evaluate({"extra": extra}))
    ]
