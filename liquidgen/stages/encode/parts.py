"""Finished parts of an encode: latents of about a thousand images, in the order of the images."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from liquidgen.images.raw import Group, RawDataset
from liquidgen.images.row_groups import Outcomes
from liquidgen.latents.manifest import SPLITS
from liquidgen.utils.errors import UserError
from liquidgen.utils.files import atomic, canonical_json, file_sha256, sha256, write_json

logger = logging.getLogger(__name__)

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


class _Description(BaseModel):
    """Content of a part's `.json`.

    Attributes:
        latents_sha256: Digest of the `.npy`.
        shape: Shape (N, C, h, w) of the latents.
        labels: Labels (N,).
        outcomes: What became of the raw images.
        digest: Digest of all fields above.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    latents_sha256: str
    shape: tuple[int, int, int, int]
    labels: list[int]
    outcomes: Outcomes
    digest: str = ""

    def sealed(self) -> "_Description":
        """Return a copy with its digest."""
        content = self.model_dump(mode="json", exclude={"digest"})
        return self.model_copy(update={"digest": sha256(canonical_json(content))})


class PartStore:
    """A folder of finished parts: latents as `.npy`, then `.json`, which marks a part as done."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def absolute(self) -> "PartStore":
        """Return the same store for a process in another working directory."""
        return PartStore(self._folder.absolute())

    def has(self, part: Part) -> bool:
        """Return whether the part is finished; a damaged one is not, and causes a warning."""
        if not self._path(part, "json").exists():
            return False
        try:
            self._verified(part)
        except _DamagedError as damage:
            logger.warning("%s; its %d images are encoded again", damage, part.images)
            return False
        return True

    def save(self, part: Part, latents: np.ndarray, labels: np.ndarray, outcomes: Outcomes) -> None:
        """Save latents float16 (N, C, h, w), labels int64 (N,) and outcomes."""
        path = self._path(part, "npy")
        with atomic(path) as file:
            # not np.save: its error does not say that the disk is full
            header = np.lib.format.header_data_from_array_1_0(latents)
            np.lib.format.write_array_header_1_0(file, header)
            file.write(latents.data)
        description = _Description(
            latents_sha256=file_sha256(path),
            shape=latents.shape,
            labels=labels.tolist(),
            outcomes=outcomes,
        )
        write_json(self._path(part, "json"), description.sealed().model_dump(mode="json"))

    def load(self, part: Part) -> tuple[np.ndarray, np.ndarray, Outcomes]:
        """Return what was saved; the latents are memory-mapped.

        Raises:
            UserError: The part has been damaged since.
        """
        try:
            description = self._verified(part)
        except _DamagedError as damage:
            again = f"run `dvc repro` again, which encodes its {part.images} images anew"
            raise UserError(f"{damage}; {again}") from None
        latents = np.load(self._path(part, "npy"), mmap_mode="r", allow_pickle=False)
        return latents, np.array(description.labels, np.int64), description.outcomes

    def _verified(self, part: Part) -> _Description:
        """Read the description of a part whose files are as they were written."""
        path = self._path(part, "json")
        try:
            description = _Description.model_validate_json(path.read_bytes())
        except (OSError, ValidationError):
            raise _DamagedError(f"{path}: damaged") from None
        if description.sealed().digest != description.digest:
            raise _DamagedError(f"{path}: damaged, its digest is not the recorded one")
        latents = self._path(part, "npy")
        if not latents.is_file() or file_sha256(latents) != description.latents_sha256:
            raise _DamagedError(f"{latents}: missing, or its sha256 is not the recorded one")
        fits = (
            description.shape[0] == len(description.labels)
            and description.outcomes.images == part.images
        )
        if not fits:
            raise _DamagedError(f"{path}: of other images")
        return description

    def _path(self, part: Part, suffix: str) -> Path:
        return self._folder / f"{part.split}-{part.number:05d}.{suffix}"


class _DamagedError(Exception):
    """A part is not as it was written; the message names the file."""
