"""The stage sample: images from a trained model, in the raw format, with a grid to look at."""

import io
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor
from tqdm.auto import tqdm

from liquidgen.autoencoder import load_autoencoder
from liquidgen.data.raw import RawWriter, Record
from liquidgen.files import atomic, new_folder
from liquidgen.flow import guided
from liquidgen.grid import class_grid, to_images
from liquidgen.modelfolder import load_model
from liquidgen.samplers import solve
from liquidgen.settings import SampleSettings

GRID, SINGLES = "grid.png", 4
MAX_FILE_MB = 256


def noise_of(seed: int, numbers: range, shape: tuple[int, ...]) -> Tensor:
    """Noise (B, C, h, w) of the images with these numbers; each depends on (seed, number) alone."""
    return torch.stack(
        [
            torch.randn(shape, generator=torch.Generator().manual_seed((seed << 32) + number))
            for number in numbers
        ]
    )


def sample(
    model_folder: Path, folder: Path, *, settings: SampleSettings, device: torch.device
) -> Image.Image:
    """Draw images, image i of class i modulo the number of classes; returns the grid.

    Raises UserError for a damaged model, an unknown solver, or another autoencoder than the
    model was trained with.
    """
    model, facts = load_model(model_folder)
    model = model.to(device, memory_format=torch.channels_last)
    autoencoder = load_autoencoder(facts.contract.autoencoder, device)
    facts.contract.check_autoencoder(autoencoder.digest)
    num_classes = len(facts.classes or ())
    guidance_scale = settings.guidance_scale if num_classes else 1.0
    velocity = guided(model, model.null_label, guidance_scale)
    rows: list[list[Image.Image]] = [[] for _ in range(num_classes or 1)]
    with (
        new_folder(folder) as temporary,
        RawWriter(temporary, facts.classes, MAX_FILE_MB) as writer,
        tqdm(desc="sample", total=settings.num_images, unit="img") as bar,
    ):
        for start in range(0, settings.num_images, settings.batch_size):
            numbers = range(start, min(start + settings.batch_size, settings.num_images))
            labels = torch.tensor([i % num_classes if num_classes else 0 for i in numbers])
            latents = solve(
                velocity,
                noise_of(settings.seed, numbers, facts.contract.latent_shape).to(device),
                labels.to(device),
                solver=settings.solver,
                num_steps=settings.num_steps,
            )
            images = to_images(autoencoder.decode(facts.contract.restore(latents)))
            for number, label, image in zip(numbers, labels.tolist(), images, strict=True):
                name = f"{number:06d}.png"
                data = _png(image)
                writer.add("samples", Record(data, name, label if num_classes else None))
                if number < SINGLES:
                    (temporary / name).write_bytes(data)
                if len(rows[label]) < settings.grid_columns:
                    rows[label].append(image)
            bar.update(len(numbers))
        writer.finish(
            license="that of the training images",
            origin=f"model {facts.name}",
            revision=None,
            refused={},
            sampling={
                "solver": settings.solver,
                "num_steps": settings.num_steps,
                "guidance_scale": guidance_scale,
                "seed": settings.seed,
                "latents_digest": facts.latents_digest,
            },
        )
        grid = class_grid([row for row in rows if row], facts.classes or ())
        with atomic(temporary / GRID) as file:
            grid.save(file, "png")
    return grid


def _png(image: Image.Image) -> bytes:
    stream = io.BytesIO()
    image.save(stream, "png")
    return stream.getvalue()
