"""Manifest of a folder of latents: contract, classes, shards and counts of images."""

from collections import Counter
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, model_validator

from liquidgen.latents.contract import LatentContract
from liquidgen.utils.errors import UserError
from liquidgen.utils.files import (
    REMEDY,
    ClassNames,
    Count,
    StoredFile,
    canonical_json,
    check_classes,
    read_json,
    sha256,
    write_json,
)
from liquidgen.utils.text import shown

MANIFEST = "manifest.json"
CLASSES_SHOWN = 5  # in the closing line
SPLITS = ("train", "holdout")  # a split's number is part of the seed of its crops and variants


class Frozen(BaseModel):
    """Base of the manifest's parts: frozen, refuses unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Split(Frozen):
    """Shards of a split and counts of its images.

    Attributes:
        count: Number of samples, see `LatentContract.samples_per_image`.
        images: Number of raw images: images = encoded + the sum of skipped.
        encoded: Number of images that were encoded.
        skipped: Numbers of images that were not, by reason.
        notes: Numbers of images that were changed, such as "upscaled", by note.
        per_class: Encoded images per class; None in unlabeled data, and in latents from before it.
        shards: Files in order.
    """

    count: Count
    images: Count
    encoded: Count
    skipped: dict[str, Count]
    notes: dict[str, Count]
    per_class: dict[str, Count] | None = None
    shards: tuple[StoredFile, ...]

    @model_validator(mode="after")
    def _adds_up(self) -> "Split":
        if not all(shard.count for shard in self.shards) or not self.shards:
            raise ValueError("has no shards, or one without samples")
        if self.count != (found := sum(shard.count for shard in self.shards)):
            raise ValueError(f"{self.count} samples, but {found} in its shards")
        if self.images != (found := self.encoded + sum(self.skipped.values())):
            raise ValueError(f"{self.images} images, but {found} encoded or skipped")
        if self.per_class is not None and self.encoded != (found := sum(self.per_class.values())):
            raise ValueError(f"{self.encoded} encoded images, but {found} in the classes")
        return self


class Manifest(Frozen):
    """Content of `manifest.json`.

    Attributes:
        dataset: Name of the folder of raw images.
        dataset_digest: Digest of the raw images.
        license: License of the images.
        classes: Names of the labels; None: unlabeled data.
        contract: Specification of the latents.
        splits: Splits by name.
        digest: Digest of all fields that determine the latents.
    """

    format: Literal["liquidgen-latents"] = "liquidgen-latents"
    version: Literal[1] = 1
    dataset: str
    dataset_digest: str
    license: str
    classes: ClassNames | None
    contract: LatentContract
    splits: dict[str, Split]
    digest: str = ""

    @model_validator(mode="after")
    def _has_samples_of_images(self) -> "Manifest":
        for name, split in self.splits.items():
            if split.count != split.encoded * self.contract.samples_per_image(name):
                found = f"{split.count} samples of {split.encoded} encoded images"
                raise ValueError(f"split {name}: {found}")
        return self

    @model_validator(mode="after")
    def _has_classes_of_splits(self) -> "Manifest":
        per_class = {name: split.per_class for name, split in self.splits.items()}
        # latents from before the counts have none
        known = {name: counts for name, counts in per_class.items() if counts is not None}
        check_classes(self.classes, known)
        return self

    def sealed(self) -> "Manifest":
        """Return a copy with its digest."""
        # without what does not change the latents: no training starts again for it
        other: dict = {"digest": True, "license": True, "splits": {"__all__": {"per_class"}}}
        content = self.model_dump(mode="json", exclude=other)
        return self.model_copy(update={"digest": sha256(canonical_json(content))})

    def split(self, name: str) -> Split:
        """Return a split.

        Raises:
            UserError: There is none of this name.
        """
        if name not in self.splits:
            known = ", ".join(map(shown, self.splits))
            raise UserError(f"{self.dataset}: no split {name!r}; there are: {known}")
        return self.splits[name]

    def num_originals(self, name: str) -> int:
        """Return the number of samples of a split that are not variants; they come first."""
        return self.split(name).count // (1 + self.contract.variants_per_image(name))

    def metrics(self) -> dict[str, float]:
        """Return the counts to log: samples per split, and images skipped or noted, by reason."""
        counts: dict[str, float] = {}
        for name, split in self.splits.items():
            counts[name] = split.count
            counts |= {f"{name}/skipped/{reason}": n for reason, n in split.skipped.items()}
            counts |= {f"{name}/noted/{note}": n for note, n in split.notes.items()}
        return counts

    def summary(self) -> str:
        """Return the counts and the license of the autoencoder as one line."""
        counts = ", ".join(
            f"{split.count} {name}{self._kinds(name)}" for name, split in self.splits.items()
        )
        skipped: Counter[str] = Counter()
        noted: Counter[str] = Counter()
        for split in self.splits.values():
            skipped.update(split.skipped)
            noted.update(split.notes)
        return (
            f"latents: {counts}{self._balance()}; "
            f"license of the autoencoder {self.contract.autoencoder.license}"
            + (f"; {skipped.total()} images skipped: {_listed(skipped)}" if skipped else "")
            + (f"; {_listed(noted)}" if noted else "")
        )

    def _kinds(self, split: str) -> str:
        """Return what the samples of a split are beside its images as they are."""
        if split != "train":
            return ""
        contract = self.contract
        variants = contract.augmented_variants
        kinds = [f"{variants} of {1 + variants} augmented"] if variants else []
        kinds += ["half mirrored"] if contract.flip else []
        return f" ({', '.join(kinds)})" if kinds else ""

    def _balance(self) -> str:
        """Return the numbers of encoded images of each class, or of the smallest of many."""
        splits = {name: split.per_class for name, split in self.splits.items() if split.per_class}
        classes = list(self.classes or ())
        if not splits:
            return ""
        more = ""
        if len(classes) > CLASSES_SHOWN:
            classes.sort(key=lambda name: sum(split[name] for split in splits.values()))
            more = f" and {len(classes) - CLASSES_SHOWN} larger classes"
        counts = {
            shown(name): " + ".join(str(split[name]) for split in splits.values())
            for name in classes[:CLASSES_SHOWN]
        }
        named = ", ".join(f"{name} {count}" for name, count in counts.items())
        return f"; images per class ({' + '.join(splits)}): {named}{more}"


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
        UserError: The file is missing, of another format or version, or was altered.
    """
    path = folder / MANIFEST
    manifest = read_json(path, Manifest)
    if manifest.sealed().digest != manifest.digest:
        raise UserError(f"{path}: content does not match its digest; {REMEDY}")
    return manifest
