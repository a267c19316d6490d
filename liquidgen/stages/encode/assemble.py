"""Last step of encode: from finished parts to permuted shards, a contract and a manifest."""

from pathlib import Path
from typing import Any

import numpy as np

from liquidgen.config.settings import EncodeSettings
from liquidgen.images.raw import RawDataset
from liquidgen.images.row_groups import ImageCounts
from liquidgen.latents.contract import LatentContract
from liquidgen.latents.manifest import Manifest, Split, write_manifest
from liquidgen.latents.shards import gather, samples_per_shard, write_shard
from liquidgen.stages.encode.parts import Part, PartStore
from liquidgen.utils.errors import UserError
from liquidgen.utils.files import new_folder

LoadedPart = tuple[np.ndarray, np.ndarray, ImageCounts]  # latents, labels, counts


def assemble(
    folder: Path,
    raw: RawDataset,
    parts: list[Part],
    store: PartStore,
    contract_fields: dict[str, Any],
    settings: EncodeSettings,
) -> Manifest:
    """Write the shards and the manifest.

    Args:
        folder: Folder of the latents, which is replaced.
        raw: The images that were encoded.
        parts: All parts of all processes.
        store: Where they are.
        contract_fields: Fields of the contract, without those that are computed here.
        settings: Section `encode` of params.yaml.

    Raises:
        UserError: No image of a split was usable, or all images are equal.
    """
    # load the parts by split; the latents are memory-mapped
    loaded: dict[str, list[LoadedPart]] = {}
    for part in parts:
        loaded.setdefault(part.split, []).append(store.load(part))
    for split, results in loaded.items():
        _check_not_empty(raw.folder, split, _total(results))

    # the moments are those of the stored latents of the train split, mirrored ones included
    moments = _moments(loaded["train"], raw.folder)
    contract = LatentContract(dtype="float16", **contract_fields, **moments)

    # write the splits, each in an order of its own
    splits = {}
    with new_folder(folder) as temporary:
        for number, (name, results) in enumerate(loaded.items()):
            splits[name] = _write_split(
                temporary, name, results, seed=(settings.seed, number), shard_mb=settings.shard_mb
            )
        return write_manifest(
            temporary,
            Manifest(
                dataset=raw.folder.name,
                dataset_digest=raw.info.digest,
                license=raw.info.license,
                classes=raw.classes,
                contract=contract,
                splits=splits,
            ),
        )


def _write_split(
    folder: Path, name: str, results: list[LoadedPart], *, seed: tuple[int, ...], shard_mb: int
) -> Split:
    arrays = [latents for latents, _, _ in results]
    labels = np.concatenate([labels for _, labels, _ in results])
    order = np.random.default_rng(seed).permutation(len(labels))
    size = samples_per_shard(arrays[0].shape[1:], shard_mb)
    shards = [
        write_shard(folder / f"{name}-{i:05d}.tar", gather(arrays, chosen), labels[chosen])
        for i, chosen in enumerate(np.split(order, range(size, len(order), size)))
    ]
    counts = _total(results)
    return Split(
        count=len(labels),
        images=counts.images,
        encoded=counts.encoded,
        skipped=dict(sorted(counts.skipped.items())),
        notes=dict(sorted(counts.notes.items())),
        shards=tuple(shards),
    )


def _total(results: list[LoadedPart]) -> ImageCounts:
    return sum((counts for _, _, counts in results), ImageCounts())


def _check_not_empty(folder: Path, split: str, counts: ImageCounts) -> None:
    if counts.encoded == 0:
        reasons = ", ".join(f"{n} {reason}" for reason, n in sorted(counts.skipped.items()))
        raise UserError(
            f"{folder}: split {split}: no image can be encoded ({reasons}); lower image_size, "
            "relax the limits in the section encode, or use other images"
        )


def _moments(results: list[LoadedPart], folder: Path) -> dict[str, tuple[float, ...]]:
    """Return the mean and standard deviation of each channel over all samples and positions."""
    count = 0
    channels = results[0][0].shape[1]
    total = np.zeros(channels)
    squares = np.zeros(channels)
    for latents, _, _ in results:
        values = latents.astype(np.float64)
        count += latents.size // latents.shape[1]
        total += values.sum((0, 2, 3))
        squares += (values**2).sum((0, 2, 3))
    mean = total / count
    std = np.sqrt(np.maximum(squares / count - mean**2, 0))
    if not std.all():
        raise UserError(f"{folder}: split train: all latents are equal; use images that differ")
    return {"mean": tuple(mean.tolist()), "std": tuple(std.tolist())}
