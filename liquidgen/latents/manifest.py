"""The manifest of a folder of latents: contract, classes, shards and accounting."""

from collections import Counter
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

from liquidgen.latents.contract import LatentContract
from liquidgen.utils.errors import UserError
from liquidgen.utils.files import StoredFile, canonical_json, read_json, sha256, write_json

MANIFEST = "manifest.json"
REMEDY = "run `dvc checkout`, or `dvc repro -f encode` to make the latents anew"


class Frozen(BaseModel):
    """Base of the manifest's parts: frozen, and unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Split(Frozen):
    """Shards of a split and its accounting: images = encoded + the sum of skipped."""

    count: int
    images: int
    encoded: int
    skipped: dict[str, int]
    notes: dict[str, int]
    shards: tuple[StoredFile, ...]


class Manifest(Frozen):
    """What a folder of latents holds; `digest` is that of all fields that make the latents."""

    format: Literal["liquidgen-latents"] = "liquidgen-latents"
    version: Literal[1] = 1
    dataset: str
    dataset_digest: str
    license: str  # of the images
    classes: tuple[str, ...] | None
    contract: LatentContract
    splits: dict[str, Split]
    digest: str = ""

    def sealed(self) -> "Manifest":
        """The manifest with its digest."""
        # another license makes no other latents, and no training start anew
        content = self.model_dump(mode="json", exclude={"digest", "license"})
        return self.model_copy(update={"digest": sha256(canonical_json(content))})

    def figures(self) -> dict[str, float]:
        """Counts to track: samples of each split, and images skipped or changed, by reason."""
        counts: dict[str, float] = {}
        for name, split in self.splits.items():
            counts[name] = split.count
            counts |= {f"{name}/skipped/{reason}": n for reason, n in split.skipped.items()}
            counts |= {f"{name}/noted/{note}": n for note, n in split.notes.items()}
        return counts

    def summary(self) -> str:
        """What there is, in a few words."""
        counts = ", ".join(f"{split.count} {name}" for name, split in self.splits.items())
        skipped, noted = Counter(), Counter()
        for split in self.splits.values():
            skipped.update(split.skipped)
            noted.update(split.notes)
        return (
            f"latents: {counts}; license of the autoencoder {self.contract.autoencoder.license}"
            + (f"; {skipped.total()} images skipped: {_listed(skipped)}" if skipped else "")
            + (f"; {_listed(noted)}" if noted else "")
        )


def _listed(counts: Counter) -> str:
    return ", ".join(f"{count} {name}" for name, count in sorted(counts.items()))


def write_manifest(folder: Path, manifest: Manifest) -> Manifest:
    """Seal the manifest and write it into the folder."""
    manifest = manifest.sealed()
    write_json(folder / MANIFEST, manifest.model_dump(mode="json"))
    return manifest


def read_manifest(folder: Path) -> Manifest:
    """Read the manifest of a folder of latents.

    Raises:
        UserError: it is missing, of another format or version, or was altered.
    """
    path = folder / MANIFEST
    manifest = read_json(path, Manifest, REMEDY)
    if manifest.sealed().digest != manifest.digest:
        raise UserError(f"{path}: content does not match its digest; {REMEDY}")
    return manifest
