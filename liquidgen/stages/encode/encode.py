"""Stage encode: raw images to latent shards.

Workers decode; parts of about a thousand images are encoded and stored in a work folder until all
are done; then the samples are permuted and written as shards. A run that was interrupted continues
after its last finished part.
"""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from tqdm.auto import tqdm

from liquidgen.config.settings import AutoencoderSettings, EncodeSettings, check_image_size
from liquidgen.images.decode import pillow_limits_off
from liquidgen.images.raw import RawDataset
from liquidgen.images.row_groups import warm
from liquidgen.images.transform import ImageTransform
from liquidgen.latents.manifest import Manifest
from liquidgen.runtime.fingerprint import fingerprint
from liquidgen.stages.encode import part_encoder
from liquidgen.stages.encode.assemble import assemble
from liquidgen.stages.encode.encoder import Encoder, encoding_threads
from liquidgen.stages.encode.part_encoder import encode_parts
from liquidgen.stages.encode.parts import PartStore, plan_parts
from liquidgen.utils.errors import UserError
from liquidgen.utils.files import canonical_json, locked, sha256
from liquidgen.utils.workers import Processes, Threads, Workers

if TYPE_CHECKING:
    import torch

    from liquidgen.compute.distributed import World


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
    """Encode a folder of raw images into a folder of shards, which is replaced at the end.

    On one machine the bytes depend on the raw images, the autoencoder, image_size and settings
    only. In a world of several processes each encodes its shard of the parts.

    Args:
        raw_folder: Folder in the raw format.
        folder: Folder of the shards and their manifest.
        work_folder: Folder of the finished parts of all unfinished runs.
        autoencoder_settings: The selected autoencoder.
        image_size: Side of the images in px.
        settings: Section `encode` of params.yaml.
        device: Device of the autoencoder.
        num_workers: Number of workers that decode image files; 0: decode in this process.
        world: Processes of this stage; None: this one only.

    Returns:
        The manifest, in the main process; None in the others.

    Raises:
        UserError: The image size does not fit, the raw images are damaged, no image of a split or
            class is usable, or another process encodes the same images.
    """
    # validate the settings and the raw images first
    check_image_size(image_size, autoencoder_settings.downscale)
    transform = ImageTransform.of(settings, image_size)
    raw = RawDataset(raw_folder)
    raw.verify(quiet=world is not None and not world.is_main)
    parts = plan_parts(raw)
    # lazy: report these errors before the slow torch import
    from liquidgen.compute.device import empty_cache, resolve_device
    from liquidgen.compute.distributed import SINGLE_PROCESS
    from liquidgen.latents.autoencoder import load_autoencoder

    world = world or SINGLE_PROCESS
    resolved = resolve_device(device)
    with _decoders(resolved, num_workers) as decoders, encoding_threads(resolved) as threads:
        # the work folder is named by everything that determines the bytes of a part
        autoencoder = load_autoencoder(autoencoder_settings, resolved)
        contract_fields = {
            "autoencoder": autoencoder_settings.model_dump(),
            "autoencoder_digest": autoencoder.digest,
            **transform.model_dump(),
            "flip": settings.flip,
        }
        determining = {
            "contract": contract_fields,
            "settings": settings.model_dump(),
            "dataset": raw.info.digest,
            "device": resolved.type,
            "code": fingerprint(part_encoder.__name__),
        }
        key = sha256(canonical_json(determining))[:16]
        with _work_folder(work_folder / folder.name, key, world) as work:
            # encode the parts that are missing
            store = PartStore(work)
            side = image_size // autoencoder.downscale
            latent_shape = (autoencoder.channels, side, side)
            encoder = Encoder(autoencoder, latent_shape, settings.batch_size, resolved, threads)
            bar = tqdm(desc="encode", unit="img", disable=not world.is_main)
            with bar, pillow_limits_off:
                encode_parts(
                    world.shard(parts),
                    store,
                    encoder,
                    decoders,
                    transform=transform,
                    flip=settings.flip,
                    progress=bar,
                )
            del encoder, autoencoder  # free the memory for the next stage in this process
            empty_cache(resolved)

            # write the shards once the parts of all processes are there
            world.barrier()
            if not world.is_main:
                return None
            return assemble(folder, raw, parts, store, contract_fields, settings)


def _decoders(device: "torch.device", num_workers: int) -> Workers:
    """Create threads if the autoencoder keeps the CPU busy, and processes if it is on a GPU."""
    return Threads(num_workers) if device.type == "cpu" else Processes(num_workers, warm)


@contextmanager
def _work_folder(parent: Path, key: str, world: "World") -> Iterator[Path]:
    """Provide a folder of finished parts, locked for one world at a time.

    After success it is removed, with those of other settings beside it.
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
    for finished in list(parent.glob("[!.]*")):
        # skip folders that are locked by a running process
        with suppress(UserError), locked(finished, "encodes into the same folder"):
            if finished.exists():
                shutil.rmtree(finished)
