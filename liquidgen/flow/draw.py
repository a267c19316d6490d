"""Images from a network: numbered noise, the flow solved under guidance, latents decoded."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from liquidgen.figures.grid import to_images
from liquidgen.flow.matching import guided
from liquidgen.flow.solvers import solve
from liquidgen.latents.autoencoder import Autoencoder
from liquidgen.models.liquidnet import LiquidNet
from liquidgen.models.model_folder import REMEDY, ModelMetadata
from liquidgen.utils.errors import UserError

Seed = tuple[int, int]  # of one image: (seed of the drawing, number of the image in it)


def noise_of(seeds: Sequence[Seed], shape: tuple[int, ...]) -> Tensor:
    """Noise (B, C, h, w) of images; each depends on its own seed alone."""
    # torch's own generator takes 32 bits of a seed and ignores the others
    drawn = [np.random.default_rng(seed).standard_normal(shape, np.float32) for seed in seeds]
    return torch.from_numpy(np.stack(drawn))


def labels_of(facts: ModelMetadata, numbers: Sequence[int]) -> list[int]:
    """Labels of numbered images, which cycle over the classes; null labels where there are none."""
    count = len(facts.classes or ())
    return [number % count if count else 0 for number in numbers]


def usable_guidance(facts: ModelMetadata, guidance_scale: float) -> float:
    """The guidance scale that a model draws with: 1, off, where it has no classes.

    Raises UserError for guidance of a model that was trained without null labels.
    """
    if facts.classes is None:  # nothing to guide to
        return 1.0
    if guidance_scale > 1 and facts.label_dropout == 0:
        raise UserError(
            f"guidance_scale: {guidance_scale}, but the model was trained with "
            "train.label_dropout 0, so there is nothing to guide away from; set it to 1"
        )
    return guidance_scale


def draw(
    model: LiquidNet,
    autoencoder: Autoencoder,
    facts: ModelMetadata,
    labels: Sequence[int],
    seeds: Sequence[Seed],
    *,
    scheduler: object,
    num_steps: int,
    guidance_scale: float,
    after_step: Callable[[], object] = lambda: None,
) -> list[Image.Image]:
    """One image for each label and seed, drawn as one batch.

    Raises UserError for latents that are not finite.
    """
    latents = solve(
        guided(model, model.null_label, guidance_scale),
        noise_of(seeds, facts.contract.latent_shape).to(model.device),
        torch.tensor(labels).to(model.device),
        scheduler=scheduler,
        num_steps=num_steps,
        after_step=after_step,
    )
    if not latents.isfinite().all():  # they would become black images
        raise UserError(f"model {facts.name}: its latents are not finite; {REMEDY}")
    return to_images(autoencoder.decode(facts.contract.denormalize(latents)))
