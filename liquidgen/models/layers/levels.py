"""Levels of a network: width and number of blocks at each resolution."""

from collections.abc import Sequence
from dataclasses import dataclass

from liquidgen.models.layers.liquid import NORM_GROUPS
from liquidgen.utils.errors import UserError


@dataclass(frozen=True)
class Level:
    """Blocks at one resolution.

    Attributes:
        width: Channels.
        depth: Number of blocks: half of them on the way down, half on the way up.
    """

    width: int
    depth: int

    @property
    def half(self) -> int:
        """Number of blocks on the way down."""
        return self.depth // 2


def read_levels(width: int | Sequence[int], depth: int | Sequence[int]) -> list[Level]:
    """Read the levels, where a number stands for a single one.

    Raises:
        UserError: The two lists differ in length, or their values do not divide.
    """
    widths, depths = _listed(width), _listed(depth)
    if len(widths) != len(depths) or not widths:
        raise UserError(
            f"model width {width} and depth {depth}: must be lists of equal length, with one "
            "number per level"
        )
    for value in widths:
        if value % NORM_GROUPS:
            raise UserError(f"model width {value}: must be a multiple of {NORM_GROUPS}")
    for value in depths:
        if value % 2:
            raise UserError(f"model depth {value}: must be even, as half of the blocks give skips")
    return [Level(*pair) for pair in zip(widths, depths, strict=True)]


def _listed(value: int | Sequence[int]) -> list[int]:
    return [value] if isinstance(value, int) else list(value)
