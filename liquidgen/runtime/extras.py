"""Checks that the packages of an extra are installed, before work that needs them."""

from collections.abc import Iterator
from importlib import metadata

from liquidgen.utils.errors import UserError

PACKAGE = "liquidgen"


def require_extra(extra: str) -> None:
    """Refuse work whose packages are not installed.

    Args:
        extra: Name of an extra of LiquidGen, such as `pipeline`.

    Raises:
        UserError: A package of it is missing.
    """
    missing = list(missing_packages(extra))
    if missing:
        raise UserError(
            f"{', '.join(missing)}: not installed; run `pip install '{PACKAGE}[{extra}]'`"
        )


def missing_packages(extra: str) -> Iterator[str]:
    """Yield the names of an extra's packages that are not installed, as pyproject.toml has them."""
    # not at the top: this module is imported by those who only sample
    from packaging.requirements import Requirement

    for line in metadata.requires(PACKAGE) or []:
        requirement = Requirement(line)
        if requirement.marker is None or not requirement.marker.evaluate({"extra": extra}):
            continue
        try:
            metadata.version(requirement.name)
        except metadata.PackageNotFoundError:
            yield requirement.name
