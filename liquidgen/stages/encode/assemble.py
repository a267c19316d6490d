"""Last step of encode: from finished parts to permuted shards, a contract and a manifest."""

from collections import Counter
from collections.abc import Iterable
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from tqdm.auto import tqdm

from liquidgen.config.settings import EncodeSettings
from liquidgen.images.raw import RawDataset
from liquidgen.images.row_groups import Entry, Outcomes
from liquidgen.images.skipped import SkippedImages
from liquidgen.latents.contract import LatentContract
from liquidgen.latents.manifest import Manifest, Split, write_manifest
from liquidgen.latents.shards import gather, samples_per_shard, write_shard
from liquidgen.stages.encode.parts import Part, PartStore
from liquidgen.utils.errors import UserError
from liquidgen.utils.files import NOTED, new_folder
from liquidgen.utils.text import listed

LoadedPart = tuple[np.ndarray, np.ndarray, Outcomes]  # latents, labels, outcomes
VALUES_AT_ONCE = 2**22  # latents are converted to float64 in pieces of so many values


def assemble(
    folder: Path,
    raw: RawDataset,
    parts: list[Part],
    store: PartStore,
    contract_fields: dict[str, Any],
    settings: EncodeSettings,
) -> Manifest:
    """Write the shards, the manifest, and the lists of skipped and of suspect images.

    Args:
        folder: Folder of the latents, which is replaced.
        raw: The images that were encoded.
        parts: All parts of all processes.
        store: Where they are.
        contract_fields: Fields of the contract, without those that are computed here.
        settings: Section `encode` of params.yaml.

    Raises:
        UserError: No image of a split or of a class was usable, all images are equal, or a part
            has been damaged.
    """
    # load the parts by split; the latents are memory-mapped
    loaded: dict[str, list[LoadedPart]] = {}
    for part in tqdm(parts, desc="verify", unit="part", delay=1):
        loaded.setdefault(part.split, []).append(store.load(part))
    for split, results in loaded.items():
        _check_not_empty(raw.folder, split, _total(results))
    _check_classes(raw, loaded)

    # the moments are those of all stored latents of the train split
    channel_moments = moments([latents for latents, _, _ in loaded["train"]], raw.folder)
    contract = LatentContract(dtype="float16", **contract_fields, **channel_moments)

    # write the splits, each in a random order of its own
    splits = {}
    with new_folder(folder) as temporary:
        for number, (name, results) in enumerate(loaded.items()):
            splits[name] = _write_split(
                temporary,
                name,
                results,
                classes=raw.classes,
                contract=contract,
                seed=(settings.seed, number),
                shard_mb=settings.shard_mb,
            )
        whole = _total(chain.from_iterable(loaded.values()))
        _table(whole.skipped).write(temporary)
        _table(whole.suspect).write(temporary, NOTED)
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
    folder: Path,
    name: str,
    results: list[LoadedPart],
    *,
    classes: tuple[str, ...] | None,
    contract: LatentContract,
    seed: tuple[int, ...],
    shard_mb: int,
) -> Split:
    arrays = [latents for latents, _, _ in results]
    labels = np.concatenate([labels for _, labels, _ in results])
    order = np.random.default_rng(seed).permutation(len(labels))
    # in the parts, variants follow their image; in the shards they come last, see `num_originals`
    is_variant = order % (1 + contract.variants_per_image(name)) > 0
    order = np.concatenate([order[~is_variant], order[is_variant]])
    size = samples_per_shard(arrays[0].shape[1:], shard_mb)
    chunks = np.split(order, range(size, len(order), size))
    shards = [
        write_shard(folder / f"{name}-{i:05d}.tar", gather(arrays, chosen), labels[chosen])
        for i, chosen in enumerate(tqdm(chunks, desc=f"write {name}", unit="shard", delay=1))
    ]
    outcomes = _total(results)
    per_class = None
    if classes is not None:
        counts = np.bincount(labels, minlength=len(classes)) // contract.samples_per_image(name)
        per_class = dict(zip(classes, counts.tolist(), strict=True))
    return Split(
        count=len(labels),
        images=outcomes.images,
        encoded=outcomes.encoded,
        skipped=dict(sorted(_table(outcomes.skipped).counts.items())),
        notes=dict(sorted(outcomes.notes.items())),
        per_class=per_class,
        shards=tuple(shards),
    )


def _total(results: Iterable[LoadedPart]) -> Outcomes:
    return Outcomes.total(outcomes for _, _, outcomes in results)


def _table(entries: Iterable[Entry]) -> SkippedImages:
    return SkippedImages((entry.path, entry.reason) for entry in entries)


def _check_not_empty(folder: Path, split: str, outcomes: Outcomes) -> None:
    if outcomes.encoded == 0:
        raise UserError(
            f"{folder}: split {split}: no image can be encoded ({_reasons(outcomes.skipped)}); "
            "lower image_size, relax the limits in the section encode, or use other images"
        )


def _check_classes(raw: RawDataset, loaded: dict[str, list[LoadedPart]]) -> None:
    """Refuse data in which a class has no images left in a split."""
    empty: list[str] = []
    skipped: list[Entry] = []
    for split, results in loaded.items():
        seen = {label for _, labels, _ in results for label in np.unique(labels).tolist()}
        lost = {label: name for label, name in enumerate(raw.classes or ()) if label not in seen}
        if lost:
            empty.append(f"{listed(lost.values())} in split {split}")
            skipped += [entry for entry in _total(results).skipped if entry.label in lost]
    if empty:
        raise UserError(
            f"{raw.folder}: no image of class {', '.join(empty)} can be encoded "
            f"({_reasons(skipped)}); a model cannot learn what it never sees: lower image_size, "
            "relax the limits in the section encode, add images, or remove the class"
        )


def _reasons(skipped: list[Entry]) -> str:
    counts = Counter(entry.reason for entry in skipped)
    return ", ".join(f"{n} {reason}" for reason, n in sorted(counts.items())) or "nothing there"


def moments(arrays: list[np.ndarray], folder: Path) -> dict[str, tuple[float, ...]]:
    """Return the mean and standard deviation of each channel over all samples and positions.

    In pieces, added in the order of the samples: their size does not change the result.
    """
    count = 0
    total = np.zeros((2, arrays[0].shape[1]))  # sums of values and of squares
    for latents in tqdm(arrays, desc="statistics", unit="part", delay=1):
        part = np.zeros_like(total)
        size = max(1, VALUES_AT_ONCE // latents[0].size) if len(latents) else 1
        for start in range(0, len(latents), size):
            values = latents[start : start + size].astype(np.float64)
            sums = np.stack([values.sum((2, 3)), (values**2).sum((2, 3))], axis=1)
            part = np.add.accumulate(np.concatenate([part[None], sums]))[-1]
        total += part
        count += latents.size // latents.shape[1]
    mean = total[0] / count
    std = np.sqrt(np.maximum(total[1] / count - mean**2, 0))
    if not std.all():
        raise UserError(f"{folder}: split train: all latents are equal; use images that differ")
    return {"mean": tuple(mean.tolist()), "std": tuple(std.tolist())}
