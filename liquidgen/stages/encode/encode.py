"""The stage encode: raw images to latent shards.

Workers decode; parts of about a thousand images are encoded and kept in a work folder
until all are done; then the samples are permuted and written as shards. A killed run continues
after its last finished part.
"""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from tqdm.auto import tqdm

from liquidgen.config.settings import AutoencoderSettings, EncodeSettings, check_image_size
from liquidgen.images.decode import own_limits
from liquidgen.images.raw import RawDataset
from liquidgen.images.row_groups import Account, DecodedGroup, GroupDecoder, warm
from liquidgen.latents.manifest import Manifest
from liquidgen.runtime.fingerprint import fingerprint
from liquidgen.stages.encode.assemble import assemble
from liquidgen.stages.encode.encoder import Encoder, encoding_threads
from liquidgen.stages.encode.parts import Part, PartStore, plan_parts
from liquidgen.utils.errors import UserError
from liquidgen.utils.files import canonical_json, locked, sha256
from liquidgen.utils.workers import Processes, Threads, Workers

if TYPE_CHECKING:
    import torch

    from liquidgen.compute.distributed import World

SPLITS = ("train", "holdout")
# what they import decides the latents of an image
ENCODING = ("liquidgen.stages.encode.encoder", "liquidgen.images.row_groups")


def encode(
    raw_folder: Path,
    folder: Path,
    *,
    work_folder: Path,
    autoencoder_settings: AutoencoderSettings,
    image_size: int,
    settings: EncodeSettings,
    device: str,
    num_workers: int,
    world: "World | None" = None,
) -> Manifest | None:
    """Encode a raw folder into a folder of shards, which is replaced at the end.

    On one machine the bytes depend on the raw data, the autoencoder, image_size and settings alone.
    In a world of several processes each encodes its parts, and only the first has the manifest.

    Raises:
        UserError: image_size does not fit, the raw data are damaged, no image of a split is
            usable, or another process encodes the same.
    """
    check_image_size(image_size, autoencoder_settings.downscale)
    raw = RawDataset(raw_folder)
    raw.verify()
    parts = plan_parts(raw, SPLITS)
    # not at the top: bad settings and damaged images are told before torch's seconds have passed
    from liquidgen.compute.device import empty_cache, resolve_device
    from liquidgen.compute.distributed import SINGLE_PROCESS
    from liquidgen.latents.autoencoder import load_autoencoder

    place, world = resolve_device(device), world or SINGLE_PROCESS
    with _decoders(place, num_workers) as decoders, encoding_threads(place) as threads:
        autoencoder = load_autoencoder(autoencoder_settings, place)
        facts = {
            "autoencoder": autoencoder_settings.model_dump(),
            "autoencoder_digest": autoencoder.digest,
            "image_size": image_size,
            "crop": settings.crop,
            "crop_seed": settings.seed,
            "flip": settings.flip,
            "max_upscale": settings.max_upscale,
            "max_pixels": settings.max_pixels,
        }
        determines = {
            "facts": facts,
            "settings": settings.model_dump(),
            "dataset": raw.info.digest,
            "device": place.type,
            "code": fingerprint(*ENCODING),
        }
        key = sha256(canonical_json(determines))[:16]
        with _work_folder(work_folder / folder.name, key, world) as work:
            store = PartStore(work)
            side = image_size // autoencoder.downscale
            latent_shape = (autoencoder.channels, side, side)
            encoder = Encoder(autoencoder, latent_shape, settings.batch_size, place, threads)
            bar = tqdm(desc="encode", unit="img", disable=not world.is_main)
            with bar, own_limits:
                _encode_parts(
                    world.shard(parts), store, encoder, decoders, image_size, settings, bar
                )
            del encoder, autoencoder  # whatever trains next in this process has their memory
            empty_cache(place)
            world.barrier()
            return assemble(folder, raw, parts, store, facts, settings) if world.is_main else None


def _decoders(device: "torch.device", num_workers: int) -> Workers:
    """Threads where the autoencoder keeps the cores busy; processes where it leaves them idle."""
    return Threads(num_workers) if device.type == "cpu" else Processes(num_workers, warm)


@contextmanager
def _work_folder(parent: Path, key: str, world: "World") -> Iterator[Path]:
    """A folder of finished parts for one world at a time.

    At a clean end it goes, and so do those of abandoned settings beside it.
    """
    folder = parent / key
    if not world.is_main:
        world.barrier()
        yield folder
        return
    with locked(folder, "encodes the same images"):
        folder.mkdir(exist_ok=True)
        world.barrier()
        yield folder
    for done in list(parent.glob("[!.]*")):
        # who is still at work keeps its own
        with suppress(UserError), locked(done, "encodes into the same folder"):
            if done.exists():
                shutil.rmtree(done)


def _encode_parts(
    parts: list[Part],
    store: PartStore,
    encoder: Encoder,
    decoders: Workers,
    image_size: int,
    settings: EncodeSettings,
    progress: tqdm,
) -> None:
    """Encode the parts that the store does not have yet."""
    missing = [part for part in parts if not store.has(part)]
    total, left = (sum(part.images for part in some) for some in (parts, missing))
    progress.reset(total)
    progress.update(total - left)
    for number, split in enumerate(SPLITS):
        chosen = [part for part in missing if part.split == split]
        decoder = GroupDecoder(
            image_size=image_size,
            crop=settings.crop,
            max_upscale=settings.max_upscale,
            max_pixels=settings.max_pixels,
            seed=(settings.seed, number),
        )
        groups = decoders.map(decoder, chain.from_iterable(part.groups for part in chosen))
        for part in chosen:
            flip = settings.flip and split == "train"
            own = islice(groups, len(part.groups))
            store.save(part, *_encode_part(own, encoder, flip, progress))


def _encode_part(
    groups: Iterator[DecodedGroup], encoder: Encoder, flip: bool, progress: tqdm
) -> tuple[np.ndarray, np.ndarray, Account]:
    """Latents, labels and account of a part; mirrored samples come after the plain ones."""
    labels, accounts = [], []

    def pixels() -> Iterator[np.ndarray]:
        for group in groups:
            labels.append(group.labels)
            accounts.append(group.account)
            yield group.pixels
            progress.update(group.account.images)

    latents = encoder(pixels(), flip)
    return latents, np.concatenate(labels * (1 + flip)), sum(accounts, Account())
