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
from liquidgen.images.raw import RawDataset
from liquidgen.images.transform import ImageTransform
from liquidgen.latents.manifest import Manifest
from liquidgen.runtime.fingerprint import fingerprint
from liquidgen.stages.encode import part_encoder
from liquidgen.stages.encode.assemble import assemble
from liquidgen.stages.encode.part_encoder import PartEncoder, Recipe
from liquidgen.stages.encode.parts import PartStore, plan_parts
from liquidgen.utils.errors import UserError
from liquidgen.utils.files import canonical_json, locked, sha256

if TYPE_CHECKING:
    from liquidgen.cluster.connection import Cluster
    from liquidgen.compute.distributed import World


def encode(
    raw_folder: Path,
    folder: Path,
    *,
    work_folder: Path,
    autoencoder_settings: AutoencoderSettings,
    image_size: int | str,
    settings: EncodeSettings,
    device: str,
    num_workers: int,
    world: "World | None" = None,
    cluster: "Cluster | None" = None,
) -> Manifest | None:
    """Encode a folder of raw images into a folder of shards, which is replaced at the end.

    On one machine the bytes depend on the raw images, the autoencoder, image_size and settings
    only. In a world of several processes each encodes its shard of the parts.

    Args:
        raw_folder: Folder in the raw format.
        folder: Folder of the shards and their manifest.
        work_folder: Folder of the finished parts of all unfinished runs.
        autoencoder_settings: The selected autoencoder.
        image_size: Size of the images in px, see `sides`.
        settings: Section `encode` of params.yaml.
        device: Device of the autoencoder.
        num_workers: Number of workers that decode image files; 0: decode in this process.
        world: Processes of this stage; None: this one only.
        cluster: Cluster whose nodes encode the parts; None: this machine does.

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
    from liquidgen.compute.device import resolve_device
    from liquidgen.compute.distributed import SINGLE_PROCESS
    from liquidgen.latents.weights import weights_digest

    world = world or SINGLE_PROCESS
    recipe = Recipe(
        autoencoder=autoencoder_settings,
        digest=weights_digest(autoencoder_settings),
        transform=transform,
        flip=settings.flip,
        augmented_variants=settings.augmented_variants,
        batch_size=settings.batch_size,
        device=cluster.device if cluster else str(resolve_device(device)),
        num_workers=num_workers,
    )
    # the work folder is named by everything that determines the bytes of a part
    contract_fields = {
        "autoencoder": autoencoder_settings.model_dump(),
        "autoencoder_digest": recipe.digest,
        **transform.model_dump(),
        "flip": settings.flip,
        "augmented_variants": settings.augmented_variants,
    }
    determining = {
        "contract": contract_fields,
        "settings": settings.model_dump(),
        "dataset": raw.info.digest,
        "device": recipe.device.partition(":")[0],
        "code": fingerprint(part_encoder.__name__),
    }
    key = sha256(canonical_json(determining))[:16]
    with _work_folder(work_folder / folder.name, key, world) as work:
        # encode the parts that are missing
        store = PartStore(work)
        bar = tqdm(desc="encode", unit="img", disable=not world.is_main)
        with bar:
            if cluster:
                from liquidgen.stages.encode.on_cluster import encode_on_cluster

                encode_on_cluster(cluster, parts, store, recipe, bar)
            else:
                with PartEncoder(recipe) as encoder:
                    encoder.encode_parts(world.shard(parts), store, bar)

        # write the shards once the parts of all processes are there
        world.barrier()
        if not world.is_main:
            return None
        return assemble(folder, raw, parts, store, contract_fields, settings)


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
