"""The stage sample: images from a trained model, in the raw format, and a grid of them."""

import io
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import torch
from PIL import Image
from tqdm.auto import tqdm

from liquidgen.compute.distributed import SINGLE_PROCESS, World
from liquidgen.compute.precision import network_dtype
from liquidgen.config.settings import SampleSettings
from liquidgen.figures import GRID
from liquidgen.figures.grid import class_grid, max_rows, to_images
from liquidgen.flow.solvers import scheduler_of
from liquidgen.generator.draw import cycled_labels, draw_latents, usable_guidance
from liquidgen.generator.model_folder import SavedModel, load_model
from liquidgen.images.raw import RawWriter, Record
from liquidgen.latents.autoencoder import Autoencoder, load_autoencoder
from liquidgen.models.liquidnet import LiquidNet
from liquidgen.utils.files import new_folder
from liquidgen.utils.image_size import sides
from liquidgen.utils.memory import Batches

SINGLES = 4  # images that are also written as single files
MAX_FILE_MB = 256  # largest Parquet file
PROTOCOL = {
    "solver",
    "num_inference_steps",
    "guidance_scale",
    "seed",
}  # settings recorded with the images


def sample(
    model_folder: Path,
    folder: Path,
    *,
    settings: SampleSettings,
    device: torch.device,
    world: World = SINGLE_PROCESS,
) -> Image.Image | None:
    """Draw images from the model of a folder of the stage train.

    As `write_samples`; raises a UserError for a damaged model as well.
    """
    model, metadata = load_model(model_folder)
    return write_samples(model, metadata, folder, settings=settings, device=device, world=world)


def write_samples(
    model: LiquidNet,
    metadata: SavedModel,
    folder: Path,
    *,
    settings: SampleSettings,
    device: torch.device,
    world: World = SINGLE_PROCESS,
) -> Image.Image | None:
    """Draw images, image i of class i modulo the number of classes.

    In a world of several processes each draws a shard of every batch, and rank 0 writes.

    Args:
        model: The network, in evaluation mode.
        metadata: The network's classes, latent contract and digests.
        folder: Folder to write.
        settings: Settings of the stage sample.
        device: Device to draw on.
        world: The processes that draw together.

    Returns:
        The grid; None in all ranks but 0.

    Raises:
        UserError: The solver is unknown, the device lacks the precision, the autoencoder is not
            the one of the model's latents, guidance is asked of a model that was trained without
            null labels, or there is not enough memory to draw one image.
    """
    dtype = network_dtype(settings.precision, device, "sample")
    model = model.to(device, memory_format=torch.channels_last)
    autoencoder = load_autoencoder(metadata.contract.autoencoder, device)
    metadata.contract.check_autoencoder(autoencoder.digest)
    guidance_scale = usable_guidance(metadata, settings.guidance_scale)
    settings = settings.model_copy(update={"guidance_scale": guidance_scale})
    images = _draw_all(model, autoencoder, metadata, settings, dtype, world)
    if not world.is_main:
        return next(images, None)  # runs to the end: this rank's images go to rank 0

    labels = cycled_labels(metadata, range(settings.num_images))
    rows: list[list[Image.Image]] = [[] for _ in metadata.classes or ("no class",)]
    rows = rows[: max_rows(sides(metadata.contract.image_size)[0])]
    with (
        new_folder(folder) as temporary,
        RawWriter(temporary, metadata.classes, MAX_FILE_MB) as writer,
    ):
        for number, (label, image) in enumerate(zip(labels, images, strict=True)):
            name = f"{number:06d}.png"
            data = _png(image)
            writer.add("samples", Record(data, name, label if metadata.classes else None))
            if number < SINGLES:
                (temporary / name).write_bytes(data)
            if label < len(rows) and len(rows[label]) < settings.grid_columns:
                rows[label].append(image)
        writer.finish(
            license=metadata.license,
            origin=f"model {metadata.name}",
            revision=None,
            refused={},
            sampling={
                **settings.model_dump(include=PROTOCOL),
                "dtype": str(dtype).removeprefix("torch."),
                "latents_digest": metadata.latents_digest,
                "weights_digest": metadata.weights.sha256,
            },
        )
        grid = class_grid([row for row in rows if row], metadata.classes or ())
        grid.save(temporary / GRID)
    return grid


def _draw_all(
    model: LiquidNet,
    autoencoder: Autoencoder,
    metadata: SavedModel,
    settings: SampleSettings,
    dtype: torch.dtype,
    world: World,
) -> Iterator[Image.Image]:
    """Yield every image in order, in rank 0; nothing in other ranks."""
    scheduler = scheduler_of(settings.solver)
    batches = Batches(settings.batch_size, "sample.batch_size")

    def draw_numbers(numbers: range) -> list[Image.Image]:
        latents = draw_latents(
            model,
            metadata,
            cycled_labels(metadata, numbers),
            [(settings.seed, number) for number in numbers],
            scheduler=scheduler,
            num_inference_steps=settings.num_inference_steps,
            guidance_scale=settings.guidance_scale,
            dtype=dtype,
        )
        return to_images(autoencoder.decode(latents))

    total = settings.num_images
    with tqdm(desc="sample", total=total, unit="img", disable=not world.is_main) as bar:
        for start in range(0, total, settings.batch_size):
            numbers = range(start, min(start + settings.batch_size, total))
            drawn = batches.map(draw_numbers, world.shard(numbers))
            if parts := world.gather(list(chain.from_iterable(drawn))):
                yield from chain.from_iterable(parts)
            bar.update(len(numbers))


def _png(image: Image.Image) -> bytes:
    stream = io.BytesIO()
    image.save(stream, "png")
    return stream.getvalue()
