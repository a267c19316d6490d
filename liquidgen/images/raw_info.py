"""Description of a folder of raw images: classes, license, origin, counts and files."""

from collections import Counter
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, model_validator

from liquidgen.utils.files import (
    ClassNames,
    Count,
    StoredFile,
    canonical_json,
    check_classes,
    read_json,
    sha256,
    write_json,
)
from liquidgen.utils.text import listed

INFO = "dataset.json"


class RawSplit(BaseModel):
    """Files of a split.

    Attributes:
        count: Number of images.
        per_class: Images per class; None in unlabeled data.
        files: Parquet files in order.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    count: Count
    per_class: dict[str, Count] | None
    files: tuple[StoredFile, ...]

    @model_validator(mode="after")
    def _adds_up(self) -> "RawSplit":
        if self.count != (found := sum(file.count for file in self.files)):
            raise ValueError(f"{self.count} images, but {found} in its files")
        if self.per_class and self.count != (found := sum(self.per_class.values())):
            raise ValueError(f"{self.count} images, but {found} in its classes")
        return self


class RawInfo(BaseModel):
    """Content of `dataset.json`.

    Attributes:
        classes: Names of the labels; None: unlabeled data.
        license: License of the images.
        origin: Where the images come from.
        revision: Version of the origin, where it has versions.
        refused: Numbers of files that were left out, by reason.
        sampling: How a model generated the images; None: they are not samples of a model.
        splits: Splits by name.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal["liquidgen-raw"] = "liquidgen-raw"
    version: Literal[1] = 1
    classes: ClassNames | None
    license: str
    origin: str
    revision: str | None
    refused: dict[str, Count]
    sampling: dict[str, str | int | float] | None
    splits: dict[str, RawSplit]

    @model_validator(mode="after")
    def _has_classes_of_splits(self) -> "RawInfo":
        check_classes(self.classes, {name: s.per_class for name, s in self.splits.items()})
        return self

    @property
    def digest(self) -> str:
        """Digest of images, labels and splits, independent of license and origin."""
        content = self.model_dump(mode="json", exclude={"license", "origin"})
        return sha256(canonical_json(content))

    def metrics(self) -> dict[str, float]:
        """Return the counts to log: images per split, and refused files by reason."""
        counts: dict[str, float] = {name: split.count for name, split in self.splits.items()}
        return counts | {f"refused/{reason}": n for reason, n in self.refused.items()}

    def summary(self) -> str:
        """Return the counts and the license as one line."""
        counts = ", ".join(f"{split.count} {name}" for name, split in self.splits.items())
        reasons = ", ".join(f"{n} {reason}" for reason, n in sorted(self.refused.items()))
        total = sum(self.refused.values())
        kinds = "unlabeled"
        if self.classes is not None:
            kinds = f"in {len(self.classes)} classes{self._balance()} ({listed(self.classes)})"
        return f"images {kinds}: {counts}; license {self.license}" + (
            f"; {total} skipped: {reasons}" if total else ""
        )

    def _balance(self) -> str:
        """Return the smallest and the largest number of images of a class."""
        sizes: Counter = Counter()
        for split in self.splits.values():
            sizes.update(split.per_class or {})
        if not sizes:
            return ""
        smallest, largest = min(sizes.values()), max(sizes.values())
        return f" of {smallest}" if smallest == largest else f" of {smallest} to {largest}"


def write_info(folder: Path, info: RawInfo) -> RawInfo:
    """Write `dataset.json` into a folder of raw images."""
    write_json(folder / INFO, info.model_dump(mode="json"))
    return info


def read_info(folder: Path) -> RawInfo:
    """Read `dataset.json` of a folder of raw images.

    Raises:
        UserError: The file is missing, of another format or version, or does not add up.
    """
    return read_json(folder / INFO, RawInfo)
