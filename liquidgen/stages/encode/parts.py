"""Finished parts of an encode: files of about a thousand latents, in the order of the images."""

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from liquidgen.images.raw import Group, RawDataset
from liquidgen.images.row_groups import ImageCounts
from liquidgen.latents.manifest import SPLITS
from liquidgen.utils.files import atomic, write_json

IMAGES_PER_PART = 1024  # at least; an interruption loses no more work than one part


@dataclass(frozen=True)
class Part:
    """Row groups of a split that are encoded together."""

    split: str
    number: int
    groups: tuple[Group, ...]

    @property
    def images(self) -> int:
        """Number of raw images."""
        return sum(group.count for group in self.groups)


def plan_parts(raw: RawDataset) -> list[Part]:
    """Divide the splits into parts; the plan depends on the raw data only."""
    return [part for split in SPLITS for part in _plan_split(raw, split)]


def _plan_split(raw: RawDataset, split: str) -> Iterator[Part]:
    number = 0
    groups = []
    for group in raw.groups(split):
        groups.append(group)
        if sum(group.count for group in groups) >= IMAGES_PER_PART:
            yield Part(split, number, tuple(groups))
            number += 1
            groups = []
    if groups:
        yield Part(split, number, tuple(groups))


class PartStore:
    """A folder of finished parts: latents as `.npy`, then `.json`, which marks a part as done."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def has(self, part: Part) -> bool:
        """Return whether the part is finished."""
        return self._path(part, "json").exists()

    def save(
        self, part: Part, latents: np.ndarray, labels: np.ndarray, counts: ImageCounts
    ) -> None:
        """Save latents float16 (N, C, h, w), labels int64 (N,) and counts."""
        with atomic(self._path(part, "npy")) as file:
            # not np.save: its error does not say that the disk is full
            header = np.lib.format.header_data_from_array_1_0(latents)
            np.lib.format.write_array_header_1_0(file, header)
            file.write(latents.data)
        content = {
            "labels": labels.tolist(),
            "images": counts.images,
            "skipped": counts.skipped,
            "notes": counts.notes,
        }
        write_json(self._path(part, "json"), content)

    def load(self, part: Part) -> tuple[np.ndarray, np.ndarray, ImageCounts]:
        """Return what was saved; the latents are memory-mapped."""
        latents = np.load(self._path(part, "npy"), mmap_mode="r", allow_pickle=False)
        content = json.loads(self._path(part, "json").read_bytes())
        counts = ImageCounts(
            images=content["images"],
            skipped=Counter(content["skipped"]),
            notes=Counter(content["notes"]),
        )
        return latents, np.array(content["labels"], np.int64), counts

    def _path(self, part: Part, suffix: str) -> Path:
        return self._folder / f"{part.split}-{part.number:05d}.{suffix}"
