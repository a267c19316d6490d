"""Work in progress of encode: latents of about a thousand images a file, in the raw order."""

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from liquidgen.images.raw import Group, RawDataset
from liquidgen.images.row_groups import Account
from liquidgen.utils.files import atomic, write_json

IMAGES = 1024  # a part: what an interrupted run does again


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


def plan_parts(raw: RawDataset, splits: tuple[str, ...]) -> list[Part]:
    """Divide splits into parts; depends on the raw data alone."""
    return [part for split in splits for part in _plan_split(raw, split)]


def _plan_split(raw: RawDataset, split: str) -> Iterator[Part]:
    number, groups = 0, []
    for group in raw.groups(split):
        groups.append(group)
        if sum(group.count for group in groups) >= IMAGES:
            yield Part(split, number, tuple(groups))
            number, groups = number + 1, []
    if groups:
        yield Part(split, number, tuple(groups))


class PartStore:
    """Finished parts in a folder: `.npy` latents, and then `.json`, which says that it is done."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def has(self, part: Part) -> bool:
        """Whether the part is finished."""
        return self._path(part, "json").exists()

    def save(self, part: Part, latents: np.ndarray, labels: np.ndarray, account: Account) -> None:
        """Keep latents float16 (N, C, h, w) and labels int64 (N,)."""
        with atomic(self._path(part, "npy")) as file:
            header = np.lib.format.header_data_from_array_1_0(latents)
            np.lib.format.write_array_header_1_0(file, header)
            file.write(latents)  # np.save would not say of a full disk that it is full
        counts = {"skipped": account.skipped, "notes": account.notes}
        done = {"labels": labels.tolist(), "images": account.images, **counts}
        write_json(self._path(part, "json"), done)

    def load(self, part: Part) -> tuple[np.ndarray, np.ndarray, Account]:
        """What was saved; the latents are mapped, not read."""
        latents = np.load(self._path(part, "npy"), mmap_mode="r", allow_pickle=False)
        done = json.loads(self._path(part, "json").read_bytes())
        account = Account(done["images"], Counter(done["skipped"]), Counter(done["notes"]))
        return latents, np.array(done["labels"], np.int64), account

    def _path(self, part: Part, suffix: str) -> Path:
        return self._folder / f"{part.split}-{part.number:05d}.{suffix}"
