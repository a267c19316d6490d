"""The stage sample: images from a trained model, in the raw format, with a grid to look at."""

import io
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import torch
from PIL import Image
from tqdm.auto import tqdm

from liquidgen.compute.distributed import SINGLE_PROCESS, World
from liquidgen.config.settings import SampleSettings
from liquidgen.figures.grid import class_grid
from liquidgen.flow.draw import draw, labels_of, usable_guidance
from liquidgen.flow.solvers import scheduler_of
from liquidgen.images.raw import RawWriter, Record
from liquidgen.latents.autoencoder import Autoencoder, load_autoencoder
from liquidgen.models.liquidnet import LiquidNet
from liquidgen.models.model_folder import SavedModel, load_model
from liquidgen.utils.files import new_folder

GRID, SINGLES = "grid.png", 4
MAX_FILE_MB = 256
PROTOCOL = {"solver", "num_steps", "guidance_scale", "seed"}  # what the images say of themselves


def sample(
    model_folder: Path,
    folder: Path,
    *,
    settings: SampleSettings,
    device: torch.device,
    world: World = SINGLE_PROCESS,
) -> Image.Image | None:
    """Draw images, image i of class i modulo the number of classes; returns the grid.

    In a world of several processes each draws a share of every batch, and the first one writes.

    Raises UserError for a damaged model, an unknown solver, guidance of a model that was trained
    without null labels, or another autoencoder than the model was trained with.
    """
    model, facts = load_model(model_folder)
    model = model.to(device, memory_format=torch.channels_last)
    autoencoder = load_autoencoder(facts.contract.autoencoder, device)
    facts.contract.check_autoencoder(autoencoder.digest)
    guidance_scale = usable_guidance(facts, settings.guidance_scale)
    settings = settings.model_copy(update={"guidance_scale": guidance_scale})
    drawn = _drawn(model, autoencoder, facts, settings, world)
    if not world.is_main:
        return next(drawn, None)  # it draws its shares and hands them over
    rows: list[list[Image.Image]] = [[] for _ in facts.classes or ("no class",)]
    with (
        new_folder(folder) as temporary,
        RawWriter(temporary, facts.classes, MAX_FILE_MB) as writer,
    ):
        for number, image in drawn:
            label, name, data = number % len(rows), f"{number:06d}.png", _png(image)
            writer.add("samples", Record(data, name, label if facts.classes else None))
            if number < SINGLES:
                (temporary / name).write_bytes(data)
            if len(rows[label]) < settings.grid_columns:
                rows[label].append(image)
        protocol = settings.model_dump(include=PROTOCOL)
        writer.finish(
            license=facts.license,
            origin=f"model {facts.name}",
            revision=None,
            refused={},
            sampling={
                **protocol,
                "latents_digest": facts.latents_digest,
                "weights_digest": facts.weights.sha256,
            },
        )
        grid = class_grid([row for row in rows if row], facts.classes or ())
        grid.save(temporary / GRID)
    return grid


def _drawn(
    model: LiquidNet,
    autoencoder: Autoencoder,
    facts: SavedModel,
    settings: SampleSettings,
    world: World,
) -> Iterator[tuple[int, Image.Image]]:
    """Number and image of every sample, in order, for the first process; nothing for others."""
    scheduler = scheduler_of(settings.solver)

    def drawn(numbers: range) -> list[Image.Image]:
        return draw(
            model,
            autoencoder,
            facts,
            labels_of(facts, numbers),
            [(settings.seed, number) for number in numbers],
            scheduler=scheduler,
            num_steps=settings.num_steps,
            guidance_scale=settings.guidance_scale,
        )

    total, quiet = settings.num_images, not world.is_main
    with tqdm(desc="sample", total=total, unit="img", disable=quiet) as bar:
        for start in range(0, total, settings.batch_size):
            numbers = range(start, min(start + settings.batch_size, total))
            own = world.shard(numbers)
            if parts := world.gather(drawn(own) if own else []):
                yield from zip(numbers, chain.from_iterable(parts), strict=True)
            bar.update(len(numbers))


def _png(image: Image.Image) -> bytes:
    stream = io.BytesIO()
    image.save(stream, "png")
    return stream.getvalue()
