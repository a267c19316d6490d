"""The interface of all sources of images."""

from collections import Counter
from collections.abc import Generator
from dataclasses import dataclass, field
from pathlib import Path

from liquidgen.config.paths import own_path
from liquidgen.images.raw import Record
from liquidgen.utils.errors import UserError


@dataclass(frozen=True)
class Source:
    """A stream of images, and what is known about them.

    Attributes:
        classes: Names in the order of the labels; None: unlabeled.
        license: License of the images, recorded beside the data.
        origin: Where they are from, recorded beside the data.
        revision: Pinned version, recorded beside the data; None: there are no versions.
        total: Number of images, if it is known before the stream ends.
        records: The images, in an order that depends on the source alone. Read once, and closed.
        refused: Number of files that gave no image, by reason; complete when the stream has ended.
    """

    classes: tuple[str, ...] | None
    license: str
    origin: str
    revision: str | None
    total: int | None
    records: Generator[Record, None, None]
    refused: Counter = field(default_factory=Counter)


def existing(path: str) -> Path:
    """Return the path of a user's own data, which must exist.

    Raises:
        UserError: There is nothing at the path.
    """
    found = own_path(path)
    if not found.exists():
        raise UserError(
            f"{path}: no such folder (looked for {found.resolve()}); put your images there, or "
            "set `path` of the dataset's block"
        )
    return found
