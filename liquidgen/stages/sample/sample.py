"""The stage sample: images from a trained model, in the raw format, and a grid of them."""

import io
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from PIL import Image
from tqdm.auto import tqdm

from liquidgen.compute.distributed import SINGLE_PROCESS, World
from liquidgen.config.settings import SampleSettings
from liquidgen.figures import GRID
from liquidgen.figures.grid import class_grid, max_rows
from liquidgen.generator.draw import cycled_labels, usable_guidance
from liquidgen.generator.model_folder import SavedModel, load_model
from liquidgen.images.raw import RawWriter, Record
from liquidgen.models.liquidnet import LiquidNet
from liquidgen.stages.sample.drawer import Drawer, Drawn, parts_of
from liquidgen.utils.files import new_folder
from liquidgen.utils.image_size import sides
from liquidgen.utils.memory import Batches

if TYPE_CHECKING:
    from liquidgen.cluster.connection import Cluster

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
    cluster: "Cluster | None" = None,
    work_folder: Path = Path("work/sample"),
) -> Image.Image | None:
    """Draw images from the model of a folder of the stage train.

    As `write_samples`, and on the nodes of a cluster if there is one, whose images wait in
    `work_folder`; raises a UserError for a damaged model as well.
    """
    model, metadata = load_model(model_folder)
    if cluster is None:
        return write_samples(model, metadata, folder, settings=settings, device=device, world=world)
    from liquidgen.stages.sample.on_cluster import draw_on_cluster

    autoencoder = metadata.contract.autoencoder
    with draw_on_cluster(cluster, model_folder, autoencoder, settings, work_folder) as drawn:
        return _write(drawn, metadata, folder, settings)


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
    drawer = Drawer(model, metadata, settings, device)
    images = _draw_all(drawer, settings, world)
    if not world.is_main:
        next(images, None)  # runs to the end: this rank's images go to rank 0
        return None
    return _write(Drawn(drawer.dtype, images), metadata, folder, settings)


def _draw_all(drawer: Drawer, settings: SampleSettings, world: World) -> Iterator[bytes]:
    """Yield every image in order as a PNG file, in rank 0; nothing in other ranks."""
    batches = Batches(settings.batch_size, "sample.batch_size")
    with tqdm(
        desc="sample", total=settings.num_images, unit="img", disable=not world.is_main
    ) as bar:
        for numbers in parts_of(settings):
            drawn = batches.map(drawer.draw, world.shard(numbers))
            if parts := world.gather(list(chain.from_iterable(drawn))):
                yield from chain.from_iterable(parts)
            bar.update(len(numbers))


def _write(
    drawn: Drawn, metadata: SavedModel, folder: Path, settings: SampleSettings
) -> Image.Image:
    """Write images, their grid, and how they were drawn; returns the grid."""
    labels = cycled_labels(metadata, range(settings.num_images))
    rows: list[list[Image.Image]] = [[] for _ in metadata.classes or ("no class",)]
    rows = rows[: max_rows(sides(metadata.contract.image_size)[0])]
    protocol = settings.model_dump(include=PROTOCOL)
    protocol["guidance_scale"] = usable_guidance(metadata, settings.guidance_scale)
    with (
        new_folder(folder) as temporary,
        RawWriter(temporary, metadata.classes, MAX_FILE_MB) as writer,
    ):
        for number, (label, data) in enumerate(zip(labels, drawn.images, strict=True)):
            name = f"{number:06d}.png"
            writer.add("samples", Record(data, name, label if metadata.classes else None))
            if number < SINGLES:
                (temporary / name).write_bytes(data)
            if label < len(rows) and len(rows[label]) < settings.grid_columns:
                rows[label].append(Image.open(io.BytesIO(data)))
        writer.finish(
            license=metadata.license,
            origin=f"model {metadata.name}",
            revision=None,
            refused={},
            sampling={
                **protocol,
                "dtype": str(drawn.dtype).removeprefix("torch."),
                "latents_digest": metadata.latents_digest,
                "weights_digest": metadata.weights.sha256,
            },
        )
        grid = class_grid([row for row in rows if row], metadata.classes or ())
        grid.save(temporary / GRID)
    return grid
