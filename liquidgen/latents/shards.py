"""Latents on disk: WebDataset shards with a manifest, read through memory maps.

Each sample is `<key>.cls` (the label in decimal) and `<key>.npy` (float16 latents (C, h, w),
no pickle); labels are 0 in unlabeled data. All samples of a dataset have the same shape, so a shard
is an array of equal records: any WebDataset reader reads it, and we index it without parsing.
"""

import io
import math
from collections.abc import Iterator, Sequence
from itertools import count as count_from
from pathlib import Path
from tarfile import RECORDSIZE
from typing import TYPE_CHECKING, Any

import numpy as np
from tqdm.auto import tqdm

from liquidgen.latents import known_shards
from liquidgen.latents.known_shards import forget_unused, known_labels, remember
from liquidgen.latents.manifest import MANIFEST, Manifest, read_manifest
from liquidgen.utils.errors import UserError
from liquidgen.utils.files import NOTED, REMEDY, SKIPPED, StoredFile, atomic

if TYPE_CHECKING:
    from torch import Tensor

BLOCK = 512  # bytes of a tar block
NPY_HEADER = 128  # bytes before the data in an npy file with few dimensions
LABEL_DIGITS = 9  # of a label, at most


def write_shard(path: Path, latents: np.ndarray, labels: np.ndarray) -> StoredFile:
    """Write samples as one tar, atomically.

    Args:
        path: Path of the tar.
        latents: float16 (N, C, h, w).
        labels: Integers (N,).

    Returns:
        The entry of the shard in a manifest.
    """
    # through numpy, with the bytes that WebDataset's TarWriter gives: that takes 0.2 ms per sample
    count = len(labels)
    records = np.repeat(_template(latents.shape[1:]), count)
    values = [b"%d" % label for label in labels]
    records["latents"] = latents
    records["label"] = values

    # the fields of the tar headers that differ between samples
    records["cls"]["name"] = [b"%08d.cls" % i for i in range(count)]
    records["npy"]["name"] = [b"%08d.npy" % i for i in range(count)]
    records["cls"]["size"] = [b"%011o" % len(value) for value in values]
    for member in ("cls", "npy"):
        # the checksum is the sum of a header's bytes, with the checksum itself as spaces
        records[member]["checksum"] = b" " * 8
        sums = np.ascontiguousarray(records[member]).view(np.uint8).reshape(count, BLOCK).sum(1)
        records[member]["checksum"] = [b"%06o\0 " % value for value in sums]

    with atomic(path) as file:
        file.write(records.data)
        file.write(bytes(2 * BLOCK))  # end of the tar
        file.write(bytes(-file.tell() % RECORDSIZE))  # padding
    return StoredFile.of(path, count)


def samples_per_shard(latent_shape: Sequence[int], shard_mb: int) -> int:
    """Return how many samples fit into a shard, at least one."""
    return max(1, shard_mb * 1_000_000 // _record(latent_shape).itemsize)


def verify(folder: Path, quiet: bool = False) -> Manifest:
    """Compare the digests of all shards of a folder with its manifest, and return the manifest.

    Shards of a large dataset are read once, see `known_shards`.

    Args:
        folder: Folder of latents.
        quiet: Whether to show no bar.

    Raises:
        UserError: A shard is missing, not in the manifest, truncated or altered.
    """
    manifest = read_manifest(folder)
    shards = {shard.name: shard for split in manifest.splits.values() for shard in split.shards}
    for path in sorted(folder.iterdir()):
        known = path.name in (MANIFEST, SKIPPED, NOTED) or path.name in shards
        if not known and not path.name.startswith("."):  # such as .DS_Store
            raise UserError(f"{path}: not in the manifest; remove it, or {REMEDY}")
    size = _size(manifest)
    is_large = size >= known_shards.LARGE
    with tqdm(desc="verify", total=size, unit="B", unit_scale=True, delay=1, disable=quiet) as bar:
        for shard in shards.values():
            shard.verify_size(folder)
            if not is_large or known_labels(folder, shard) is None:
                shard.verify(folder)
                if is_large:
                    remember(folder, shard, _open(folder, shard, manifest)[1])
            bar.update(shard.bytes)
    if is_large:
        forget_unused()
    return manifest


def _size(manifest: Manifest) -> int:
    """Return the bytes of all shards."""
    return sum(shard.bytes for split in manifest.splits.values() for shard in split.shards)


def _open(
    folder: Path, shard: StoredFile, manifest: Manifest, known: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Memory-map a shard; returns its records and its labels, which may be known already."""
    shard.verify_size(folder)
    records = _map(folder, shard, manifest.contract.latent_shape, is_checked=known is not None)
    if known is None:
        known = _labels(folder / shard.name, records, max(1, len(manifest.classes or ())))
    return records, known


class LatentDataset:
    """One split of a folder of latents, read by index through memory maps.

    Attributes:
        manifest: Manifest of the folder.
        contract: Specification of the latents.
        classes: Names of the labels; None: unlabeled data.
        num_classes: Number of classes, 0 in unlabeled data.
        labels: int64 (N,), in memory.

    Raises:
        UserError: The manifest or a shard is missing or damaged, or there is no such split.
    """

    def __init__(self, folder: Path, split: str) -> None:
        self.manifest = read_manifest(folder)
        self.contract = self.manifest.contract
        self.classes = self.manifest.classes
        self.num_classes = len(self.classes or ())
        is_large = _size(self.manifest) >= known_shards.LARGE
        opened = [
            _open(folder, shard, self.manifest, known_labels(folder, shard) if is_large else None)
            for shard in self.manifest.split(split).shards
        ]
        self._latents = [records["latents"] for records, _ in opened]
        self.labels = np.concatenate([labels for _, labels in opened])

    def __len__(self) -> int:
        return len(self.labels)

    def batch(self, indices: Sequence[int] | np.ndarray) -> "tuple[Tensor, Tensor]":
        """Read samples.

        Args:
            indices: (B,), in any order.

        Returns:
            Latents float32 (B, C, h, w) as they are stored, not normalized, and labels int64 (B,).
        """
        import torch

        chosen = np.asarray(indices, dtype=np.int64)
        latents = gather(self._latents, chosen)
        return torch.from_numpy(latents).float(), torch.from_numpy(self.labels[chosen])


def gather(arrays: Sequence[np.ndarray], indices: np.ndarray) -> np.ndarray:
    """Read rows of several arrays by their indices in the concatenation of the arrays."""
    starts = np.cumsum([0] + [len(array) for array in arrays])
    array_of_row = np.searchsorted(starts, indices, side="right") - 1
    rows = np.empty((len(indices), *arrays[0].shape[1:]), arrays[0].dtype)
    for i in np.unique(array_of_row):
        chosen = array_of_row == i
        rows[chosen] = arrays[i][indices[chosen] - starts[i]]
    return rows


def epoch_order(num_samples: int, seed: int, epoch: int) -> np.ndarray:
    """Return the permutation of the samples in an epoch, a pure function of its arguments."""
    return np.random.default_rng([seed, epoch]).permutation(num_samples)


def batches(num_samples: int, batch_size: int, seed: int, step: int) -> Iterator[np.ndarray]:
    """Yield the indices of the batches from a step on, without end.

    Each epoch has a new permutation; its last, smaller batch is left out.
    """
    per_epoch = num_samples // batch_size
    first_epoch, first_batch = divmod(step, per_epoch)
    for epoch in count_from(first_epoch):
        order = epoch_order(num_samples, seed, epoch)
        for batch in range(first_batch, per_epoch):
            yield order[batch * batch_size : (batch + 1) * batch_size]
        first_batch = 0


def _record(latent_shape: Sequence[int]) -> np.dtype:
    """Return the layout of a sample in a tar: two members, each a header and padded content."""
    member = [
        ("name", "S100"),
        ("mode_and_owner", "V24"),
        ("size", "S12"),
        ("time", "V12"),
        ("checksum", "S8"),
        ("rest", "V356"),
    ]
    size = NPY_HEADER + 2 * int(np.prod(latent_shape))
    fields: list[Any] = [
        ("cls", member),
        ("label", "S20"),
        ("cls_padding", f"V{BLOCK - 20}"),
        ("npy", member),
        ("npy_header", f"V{NPY_HEADER}"),
        ("latents", "<f2", tuple(latent_shape)),
        ("npy_padding", f"V{-size % BLOCK}"),
    ]
    return np.dtype(fields)


def _template(latent_shape: Sequence[int]) -> np.ndarray:
    """Return the record of a sample of zeros, as WebDataset writes it."""
    from webdataset import TarWriter

    npy = io.BytesIO()
    np.lib.format.write_array(npy, np.zeros(latent_shape, np.float16), version=(1, 0))
    tar = io.BytesIO()
    with TarWriter(tar, mtime=0, encoder=False) as writer:
        writer.write({"__key__": f"{0:08d}", "npy": npy.getvalue(), "cls": b"0"})
    return np.frombuffer(tar.getvalue(), _record(latent_shape), count=1)


def _map(
    folder: Path, shard: StoredFile, latent_shape: Sequence[int], *, is_checked: bool
) -> np.ndarray:
    """Memory-map a shard as an array of records, after a check of its headers."""
    path = folder / shard.name
    # before the layout is made: a forged shape may be larger than numpy can describe
    if shard.bytes < shard.count * 2 * math.prod(latent_shape):
        raise UserError(f"{path}: too short for {shard.count} samples; {REMEDY}")
    template = _template(latent_shape)
    if shard.bytes < shard.count * template.itemsize:
        raise UserError(f"{path}: too short for {shard.count} samples; {REMEDY}")
    records = np.memmap(path, dtype=template.dtype, mode="r", shape=(shard.count,))
    if is_checked:
        return records
    names = [b"%08d" % i for i in range(shard.count)]
    right = records["npy_header"] == template["npy_header"]
    right &= records["npy"]["size"] == template["npy"]["size"]
    for member in ("cls", "npy"):
        right &= records[member]["name"] == [b"%s.%s" % (name, member.encode()) for name in names]
    if not right.all():
        raise UserError(f"{path}: sample {right.argmin()} is not as the format says; {REMEDY}")
    return records


def _labels(path: Path, records: np.ndarray, num_labels: int) -> np.ndarray:
    """Return the labels of a shard, after a check of their range."""
    texts = np.ascontiguousarray(records["label"])
    digits = np.char.isdigit(texts) & (np.char.str_len(texts) <= LABEL_DIGITS)
    labels = np.where(digits, texts, b"-1").astype(np.int64)
    wrong = (labels < 0) | (labels >= num_labels)
    if wrong.any():
        number = wrong.argmax()
        raise UserError(
            f"{path}: sample {number} has label {bytes(texts[number])!r}, but labels are 0 to "
            f"{num_labels - 1}; {REMEDY}"
        )
    return labels
