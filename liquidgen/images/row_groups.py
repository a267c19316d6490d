"""Decodes row groups of raw images to pixels; this is the work of encode's workers."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import chain
from threading import Lock
from typing import NamedTuple

import numpy as np

from liquidgen.images.decode import SUSPECT, Refused, decode
from liquidgen.images.raw import Group, LoadedGroup
from liquidgen.images.transform import ImageTransform
from liquidgen.utils.errors import UserError
from liquidgen.utils.image_size import sides
from liquidgen.utils.text import escaped

READ_LOCK = Lock()  # pyarrow does not promise that threads may read one file at the same time


class Entry(NamedTuple):
    """An image to be named to the user.

    Attributes:
        path: Path that the file had.
        reason: Why it was refused, or a note.
        label: Index of its class, 0 in unlabeled data.
    """

    path: str
    reason: str
    label: int


@dataclass(frozen=True)
class Outcomes:
    """What became of images: images = encoded + number of skipped.

    Attributes:
        images: Number of images.
        skipped: The refused images, in order.
        notes: Number of decoded images by note; an image may have several.
        suspect: The decoded images with a note of `SUSPECT`, in order.
    """

    images: int = 0
    skipped: list[Entry] = field(default_factory=list)
    notes: Counter[str] = field(default_factory=Counter)
    suspect: list[Entry] = field(default_factory=list)

    @classmethod
    def total(cls, parts: Iterable["Outcomes"]) -> "Outcomes":
        """Join the outcomes of several sets of images."""
        parts = list(parts)
        return cls(
            images=sum(part.images for part in parts),
            skipped=[*chain.from_iterable(part.skipped for part in parts)],
            notes=sum((part.notes for part in parts), Counter()),
            suspect=[*chain.from_iterable(part.suspect for part in parts)],
        )

    @property
    def encoded(self) -> int:
        """Number of images that were not skipped."""
        return self.images - len(self.skipped)


@dataclass(frozen=True)
class DecodedGroup:
    """The images of a row group that were not skipped, each followed by its variants.

    Attributes:
        pixels: uint8 (N, H, W, 3).
        labels: int64 (N,), 0 in unlabeled data.
        outcomes: What became of all images of the group.
    """

    pixels: np.ndarray
    labels: np.ndarray
    outcomes: Outcomes


@dataclass(frozen=True)
class GroupDecoder:
    """A function that decodes a row group, as an object that can be pickled for a worker.

    Attributes:
        transform: Size, crop and limits.
        split_number: Number of the split. With the image's number in the split it identifies the
            image for its random crop and variants.
        num_variants: Augmented variants of each image.
    """

    transform: ImageTransform
    split_number: int
    num_variants: int = 0

    def __call__(self, group: Group | LoadedGroup) -> DecodedGroup:
        """Decode a row group.

        Raises:
            UserError: There is not enough memory for an image.
        """
        with READ_LOCK:
            records = group.read()
        pixels = []
        labels = []
        outcomes = Outcomes(images=group.count)
        for number, record in enumerate(records, start=group.start):
            label = record.label or 0
            try:
                index = (self.split_number, number)
                decoded = decode(record.data, self.transform, index, self.num_variants)
            except Refused as refused:
                outcomes.skipped.append(Entry(record.path, str(refused), label))
                continue
            except MemoryError:
                raise UserError(
                    f"{escaped(record.path)}: not enough memory to decode it; lower "
                    "encode.max_pixels, encode.augmented_variants or machine.num_workers, or close "
                    "other programs"
                ) from None
            outcomes.notes.update(decoded.notes)
            found = [note for note in decoded.notes if note in SUSPECT]
            outcomes.suspect.extend(Entry(record.path, note, label) for note in found)
            pixels += [decoded.pixels, *decoded.variants]
            labels += [label] * (1 + self.num_variants)
        height, width = sides(self.transform.image_size)
        # also when all images of the group were skipped
        stacked = np.array(pixels, np.uint8).reshape(len(pixels), height, width, 3)
        return DecodedGroup(stacked, np.array(labels, np.int64), outcomes)


def warm() -> None:
    """Prepare a worker process: importing this module is all that it needs."""
