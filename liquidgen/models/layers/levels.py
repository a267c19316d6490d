"""Levels of a network: width and number of blocks at each resolution."""

from collections.abc import Sequence
from dataclasses import dataclass

from liquidgen.config.settings import LevelSettings, validate


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
    def down_depth(self) -> int:
        """Number of blocks on the way down, and on the way up."""
        return self.depth // 2


def read_levels(width: int | Sequence[int], depth: int | Sequence[int]) -> list[Level]:
    """Read the levels, where a number stands for a single one.

    Raises:
        UserError: The lists differ in length, a width is no multiple of the groups of GroupNorm, or
            a depth is odd.
    """
    levels = validate(LevelSettings, {"width": width, "depth": depth}, "model")
    return [Level(*pair) for pair in zip(levels.width, levels.depth, strict=True)]
