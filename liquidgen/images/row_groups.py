"""Decodes row groups of raw images to pixels; this is the work of encode's workers."""

from collections import Counter
from dataclasses import dataclass, field
from threading import Lock

import numpy as np

from liquidgen.images.decode import Refused, decode
from liquidgen.images.raw import Group
from liquidgen.images.transform import ImageTransform

READ_LOCK = Lock()  # pyarrow does not promise that threads may read one file at the same time


@dataclass(frozen=True)
class ImageCounts:
    """Counts of images by outcome: images = encoded + the sum of skipped.

    Attributes:
        images: Number of images.
        skipped: Number of refused images by reason.
        notes: Number of decoded images by note; an image may have several.
    """

    images: int = 0
    skipped: Counter = field(default_factory=Counter)
    notes: Counter = field(default_factory=Counter)

    def __add__(self, other: "ImageCounts") -> "ImageCounts":
        return ImageCounts(
            self.images + other.images, self.skipped + other.skipped, self.notes + other.notes
        )

    @property
    def encoded(self) -> int:
        """Images that were not skipped."""
        return self.images - self.skipped.total()


@dataclass(frozen=True)
class DecodedGroup:
    """The images of a row group that were not skipped.

    Attributes:
        pixels: uint8 (N, S, S, 3).
        labels: int64 (N,), 0 in unlabeled data.
        counts: Counts of all images of the group, with those that were skipped.
    """

    pixels: np.ndarray
    labels: np.ndarray
    counts: ImageCounts


@dataclass(frozen=True)
class GroupDecoder:
    """A function that decodes a row group, as an object that can be pickled for a worker.

    Attributes:
        transform: Size, crop and limits.
        split_number: Number of the split. With the image's number in the split it identifies the
            image for its random crop.
    """

    transform: ImageTransform
    split_number: int

    def __call__(self, group: Group) -> DecodedGroup:
        with READ_LOCK:
            records = group.read()
        pixels = []
        labels = []
        counts = ImageCounts(images=group.count)
        for number, record in enumerate(records, start=group.start):
            try:
                decoded = decode(record.data, self.transform, (self.split_number, number))
            except Refused as refused:
                counts.skipped[str(refused)] += 1
                continue
            counts.notes.update(decoded.notes)
            pixels.append(decoded.pixels)
            labels.append(record.label or 0)
        size = self.transform.image_size
        shape = (len(pixels), size, size, 3)  # also when all images of the group were skipped
        return DecodedGroup(
            np.array(pixels, np.uint8).reshape(shape), np.array(labels, np.int64), counts
        )


def warm() -> None:
    """Prepare a worker process: importing this module is all that it needs."""
