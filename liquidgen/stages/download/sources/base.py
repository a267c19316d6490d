"""What every source of images gives."""

from collections import Counter
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from pathlib import Path

from liquidgen.config.paths import own_path
from liquidgen.images.raw import Record
from liquidgen.utils.errors import UserError


def nothing() -> None:
    """What most sources have to let go of."""


@dataclass(frozen=True)
class Source:
    """A stream of images and what is known about them.

    | field | meaning |
    |---|---|
    | classes | names in the order of the labels; None: unlabelled |
    | license, origin, revision | recorded beside the data; revision: pinned version, or None |
    | total | number of images if known before the stream ends |
    | records | the images, in an order of the source alone; read once, and closed |
    | refused | files that gave no image, by reason; complete when the stream has ended |
    | release | called once the images are stored: removes what an interrupted run would need |
    """

    classes: tuple[str, ...] | None
    license: str
    origin: str
    revision: str | None
    total: int | None
    records: Generator[Record, None, None]
    refused: Counter = field(default_factory=Counter)
    release: Callable[[], None] = nothing


def existing(path: str) -> Path:
    """The path of own data, which must exist.

    Raises:
        UserError: there is nothing at the path.
    """
    found = own_path(path)
    if not found.exists():
        raise UserError(
            f"{path}: no such folder (looked for {found.resolve()}); put your images there, or "
            "set `path` of the dataset's block"
        )
    return found
