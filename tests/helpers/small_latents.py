"""Small random latents on disk, as encode writes them."""

import numpy as np

from liquidgen.config.settings import AutoencoderSettings
from liquidgen.latents.contract import LatentContract
from liquidgen.latents.manifest import Manifest, Split, write_manifest
from liquidgen.latents.shards import write_shard

SHAPE = (4, 8, 8)
MADE = {  # fields of a contract that do not depend on the autoencoder
    "crop": "center",
    "crop_seed": 0,
    "flip": False,
    "max_upscale": 1.5,
    "max_pixels": 10**6,
    "dtype": "float16",
}


def contract(channels=4, side=8, **changes):
    block = {"kind": "dc", "path": None, "channels": channels, "downscale": 8}
    block |= {"sha256": None, "license": "MIT", "precision": "fp32"}
    fields = {
        "autoencoder": AutoencoderSettings(**block, scale=1.0, shift=0.0),
        "autoencoder_digest": "0123456789abcdef",
        "image_size": side * 8,
        "mean": [0.25 * i for i in range(channels)],
        "std": [0.5 + i for i in range(channels)],
    }
    return LatentContract(**{**MADE, **fields, **changes})


def samples(count, shape=SHAPE, seed=0):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((count, *shape)).astype(np.float16), rng.integers(0, 12, count)


def write(folder, counts=(30, 20), shape=SHAPE):
    """Write shards of a train split; return the latents and labels in them."""
    folder.mkdir(parents=True, exist_ok=True)
    latents, labels = samples(sum(counts), shape)
    cuts = np.cumsum(counts)[:-1]
    pieces = zip(np.split(latents, cuts), np.split(labels, cuts), strict=True)
    shards = [write_shard(folder / f"train-{i:05d}.tar", *p) for i, p in enumerate(pieces)]
    total = sum(counts)
    split = Split(
        count=total, images=total, encoded=total, skipped={}, notes={}, shards=tuple(shards)
    )
    manifest = Manifest(
        dataset="test",
        dataset_digest="d",
        license="CC0",
        classes=tuple("abcdefghijkl"),
        contract=contract(shape[0], shape[1]),
        splits={"train": split},
    )
    write_manifest(folder, manifest)
    return latents, labels
