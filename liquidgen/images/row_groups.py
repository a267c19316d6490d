"""What a decoding worker does for encode: a row group of raw images to pixels and counts."""

from collections import Counter
from dataclasses import dataclass, field
from threading import Lock

import numpy as np

from liquidgen.images.decode import Refused, decode
from liquidgen.images.raw import Group

READING = Lock()  # pyarrow does not promise that threads may read one file at once


@dataclass(frozen=True)
class Account:
    """Counts of images by what happened: images = encoded + the sum of skipped."""

    images: int = 0
    skipped: Counter = field(default_factory=Counter)
    notes: Counter = field(default_factory=Counter)

    def __add__(self, other: "Account") -> "Account":
        return Account(
            self.images + other.images, self.skipped + other.skipped, self.notes + other.notes
        )

    @property
    def encoded(self) -> int:
        """Images that were not skipped."""
        return self.images - self.skipped.total()


@dataclass(frozen=True)
class DecodedGroup:
    """Pixels uint8 (N, S, S, 3) and labels int64 (N,) of the images that were not skipped."""

    pixels: np.ndarray
    labels: np.ndarray
    account: Account


@dataclass(frozen=True)
class GroupDecoder:
    """Decodes a row group; an object that travels to workers."""

    image_size: int
    crop: str
    max_upscale: float
    max_pixels: int
    seed: tuple[int, ...]  # of random crops; the image's number in the split is added

    def __call__(self, group: Group) -> DecodedGroup:
        pixels, labels, account = [], [], Account(images=group.count)
        with READING:
            records = group.read()
        for number, record in enumerate(records, start=group.start):
            try:
                decoded = decode(
                    record.data,
                    image_size=self.image_size,
                    crop=self.crop,
                    max_upscale=self.max_upscale,
                    max_pixels=self.max_pixels,
                    seed=(*self.seed, number),
                )
            except Refused as refused:
                account.skipped[str(refused)] += 1
                continue
            account.notes.update(decoded.notes)
            pixels.append(decoded.pixels)
            labels.append(record.label or 0)
        shape = (len(pixels), self.image_size, self.image_size, 3)
        return DecodedGroup(
            np.array(pixels, np.uint8).reshape(shape), np.array(labels, np.int64), account
        )


def warm() -> None:
    """Importing this module is all that a worker process needs to be ready."""
