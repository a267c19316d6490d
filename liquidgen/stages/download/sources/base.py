"""The interface of all sources of images."""

from collections.abc import Generator
from dataclasses import dataclass, field

from liquidgen.images.raw import Record
from liquidgen.images.skipped import SkippedImages


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
        skipped: Files and rows that gave no image; complete when the stream has ended.
        unlabeled: The setting that does without classes, for messages; "" if there is none.
    """

    classes: tuple[str, ...] | None
    license: str
    origin: str
    revision: str | None
    total: int | None
    records: Generator[Record, None, None]
    skipped: SkippedImages = field(default_factory=SkippedImages)
    unlabeled: str = ""
