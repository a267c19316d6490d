"""The stage sample: images from a trained model, in the raw format, with a grid to look at."""

import io
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from tqdm.auto import tqdm

from liquidgen.autoencoder import Autoencoder, load_autoencoder
from liquidgen.data.raw import RawWriter, Record
from liquidgen.distributed import ALONE, World
from liquidgen.errors import UserError
from liquidgen.files import new_folder
from liquidgen.flow import guided
from liquidgen.grid import class_grid, to_images
from liquidgen.modelfolder import REMEDY, ModelFacts, load_model
from liquidgen.models.liquidnet import LiquidNet
from liquidgen.samplers import solve
from liquidgen.settings import SampleSettings

GRID, SINGLES = "grid.png", 4
MAX_FILE_MB = 256
PROTOCOL = {"solver", "num_steps", "guidance_scale", "seed"}  # what the images say of themselves


def noise_of(seed: int, numbers: range, shape: tuple[int, ...]) -> Tensor:
    """Noise (B, C, h, w) of the images with these numbers; each depends on (seed, number) alone."""
    # torch's own generator takes 32 bits of a seed and ignores the others
    drawn = [np.random.default_rng((seed, n)).standard_normal(shape, np.float32) for n in numbers]
    return torch.from_numpy(np.stack(drawn))


def sample(
    model_folder: Path,
    folder: Path,
    *,
    settings: SampleSettings,
    device: torch.device,
    world: World = ALONE,
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
    if settings.guidance_scale > 1 and facts.classes and facts.label_dropout == 0:
        raise UserError(
            f"sample.guidance_scale: {settings.guidance_scale}, but the model was trained with "
            "train.label_dropout 0, so there is nothing to guide away from; set it to 1"
        )
    if facts.classes is None:  # nothing to guide to
        settings = settings.model_copy(update={"guidance_scale": 1.0})
    drawn = _drawn(model, autoencoder, facts, settings, world)
    if not world.first:
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
            license="that of the training images",
            origin=f"model {facts.name}",
            revision=None,
            refused={},
            sampling={**protocol, "latents_digest": facts.latents_digest},
        )
        grid = class_grid([row for row in rows if row], facts.classes or ())
        grid.save(temporary / GRID)
    return grid


def _drawn(
    model: LiquidNet,
    autoencoder: Autoencoder,
    facts: ModelFacts,
    settings: SampleSettings,
    world: World,
) -> Iterator[tuple[int, Image.Image]]:
    """Number and image of every sample, in order, for the first process; nothing for others."""
    cycle = range(len(facts.classes)) if facts.classes else [model.null_label]
    velocity = guided(model, model.null_label, settings.guidance_scale)

    def draw(numbers: range) -> list[Image.Image]:
        labels = torch.tensor([cycle[number % len(cycle)] for number in numbers])
        latents = solve(
            velocity,
            noise_of(settings.seed, numbers, facts.contract.latent_shape).to(model.device),
            labels.to(model.device),
            solver=settings.solver,
            num_steps=settings.num_steps,
        )
        if not latents.isfinite().all():  # they would become black images
            raise UserError(f"model {facts.name}: its latents are not finite; {REMEDY}")
        return to_images(autoencoder.decode(facts.contract.restore(latents)))

    total, quiet = settings.num_images, not world.first
    with tqdm(desc="sample", total=total, unit="img", disable=quiet) as bar:
        for start in range(0, total, settings.batch_size):
            numbers = range(start, min(start + settings.batch_size, total))
            own = world.share(numbers)
            if parts := world.gather(draw(own) if own else []):
                yield from zip(numbers, chain.from_iterable(parts), strict=True)
            bar.update(len(numbers))


def _png(image: Image.Image) -> bytes:
    stream = io.BytesIO()
    image.save(stream, "png")
    return stream.getvalue()
