"""The description of a folder of raw images: classes, license, origin, counts and files."""

from collections import Counter
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

from liquidgen.utils.files import StoredFile, canonical_json, read_json, sha256, write_json

INFO = "dataset.json"
REMEDY = "run `dvc checkout`, or `dvc repro -f download` to make the images anew"


class RawSplit(BaseModel):
    """Files of a split, and images a class (None: unlabelled)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    count: int
    per_class: dict[str, int] | None
    files: tuple[StoredFile, ...]


class RawInfo(BaseModel):
    """Content of `dataset.json`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal["liquidgen-raw"] = "liquidgen-raw"
    version: Literal[1] = 1
    classes: tuple[str, ...] | None
    license: str
    origin: str
    revision: str | None
    refused: dict[str, int]
    sampling: dict[str, str | int | float] | None  # how a model made the images; None: it did not
    splits: dict[str, RawSplit]

    @property
    def digest(self) -> str:
        """Digest of images, labels and splits: another license or path makes no other data."""
        content = self.model_dump(mode="json", exclude={"license", "origin"})
        return sha256(canonical_json(content))

    def figures(self) -> dict[str, float]:
        """Counts to track: images of each split, and refused files by reason."""
        counts = {name: split.count for name, split in self.splits.items()}
        return counts | {f"refused/{reason}": n for reason, n in self.refused.items()}

    def summary(self) -> str:
        """What there is, in a few words."""
        counts = ", ".join(f"{split.count} {name}" for name, split in self.splits.items())
        reasons = ", ".join(f"{n} {reason}" for reason, n in sorted(self.refused.items()))
        total = sum(self.refused.values())
        kinds = "unlabelled" if self.classes is None else f"in {len(self.classes)} classes"
        return f"images {kinds}{self._balance()}: {counts}; license {self.license}" + (
            f"; {total} files refused: {reasons}" if total else ""
        )

    def _balance(self) -> str:
        """The least and the most images that a class has."""
        sizes: Counter = Counter()
        for split in self.splits.values():
            sizes.update(split.per_class or {})
        return f" of {min(sizes.values())} to {max(sizes.values())}" if sizes else ""


def write_info(folder: Path, info: RawInfo) -> RawInfo:
    """Write the description into the folder."""
    write_json(folder / INFO, info.model_dump(mode="json"))
    return info


def read_info(folder: Path) -> RawInfo:
    """Read the description of a folder of raw images.

    Raises:
        UserError: it is missing, or of another format or version.
    """
    return read_json(folder / INFO, RawInfo, REMEDY)
