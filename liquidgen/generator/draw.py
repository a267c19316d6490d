"""Draws latents from a network: numbered noise, and the ODE solved with guidance."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from liquidgen.compute.precision import autocast
from liquidgen.flow.matching import Velocity, guided
from liquidgen.flow.solvers import solve
from liquidgen.generator.model_folder import ModelMetadata
from liquidgen.models.liquidnet import LiquidNet
from liquidgen.utils.errors import UserError

Seed = tuple[int, int]  # of one image: (seed of the whole set, number of the image in it)
ON_CPU = "train it again, or draw with machine.device: cpu"


def noise_of(seeds: Sequence[Seed], shape: tuple[int, ...]) -> Tensor:
    """Draw noise (B, C, h, w), each image from its own seed alone."""
    # torch's own generator takes 32 bits of a seed and ignores the others
    arrays = [np.random.default_rng(seed).standard_normal(shape, np.float32) for seed in seeds]
    return torch.from_numpy(np.stack(arrays))


def cycled_labels(metadata: ModelMetadata, numbers: Sequence[int]) -> list[int]:
    """Return the labels of numbered images, which cycle over the classes.

    Without classes every label is 0: it is the null label of an unconditional model, because the
    null label is `num_classes` (see LiquidNet.null_label), and num_classes is 0.
    """
    num_classes = len(metadata.classes or ())
    return [number % num_classes if num_classes else 0 for number in numbers]


def usable_guidance(metadata: ModelMetadata, guidance_scale: float) -> float:
    """Return the guidance scale that a model can use: 1, off, where it has no classes.

    Raises:
        UserError: The scale is above 1, but the model was trained without null labels.
    """
    if metadata.classes is None:  # nothing to guide to
        return 1.0
    if guidance_scale > 1 and metadata.label_dropout == 0:
        raise UserError(
            f"guidance_scale: {guidance_scale}, but the model was trained with "
            "train.label_dropout 0, so there is nothing to guide away from; set it to 1"
        )
    return guidance_scale


def draw_latents(
    model: LiquidNet,
    metadata: ModelMetadata,
    labels: Sequence[int],
    seeds: Sequence[Seed],
    *,
    scheduler: object,
    num_inference_steps: int,
    guidance_scale: float,
    dtype: torch.dtype = torch.float32,
    after_step: Callable[[], object] = lambda: None,
) -> Tensor:
    """Draw the latents of one image per label and seed, as one batch.

    Args:
        model: The network.
        metadata: The network's classes and latent contract.
        labels: Label per image.
        seeds: Seed per image; the noise depends on nothing else.
        scheduler: Flow-matching scheduler of diffusers.
        num_inference_steps: Steps of the solver.
        guidance_scale: Scale of classifier-free guidance; 1 is off.
        dtype: In which the network computes; guidance and solver are in fp32.
        after_step: Called once per call of the model; may raise to stop.

    Returns:
        Latents (B, C, h, w) as the autoencoder decodes them.

    Raises:
        UserError: The latents are not finite.
    """
    latents = solve(
        guided(velocity_in(dtype, model), model.null_label, guidance_scale),
        noise_of(seeds, metadata.contract.latent_shape).to(model.device),
        torch.tensor(labels).to(model.device),
        scheduler=scheduler,
        num_inference_steps=num_inference_steps,
        after_step=after_step,
    )
    check_finite(latents, metadata)
    return metadata.contract.denormalize(latents)


def velocity_in(dtype: torch.dtype, model: LiquidNet) -> Velocity:
    """Return a network as a function that computes in a dtype, and returns the velocity in fp32."""

    def velocity(x_t: Tensor, t: Tensor, labels: Tensor) -> Tensor:
        with autocast(model.device, dtype):
            return model(x_t, t, labels).float()

    return velocity


def check_finite(latents: Tensor, metadata: ModelMetadata, remedy: str = ON_CPU) -> None:
    """Refuse latents that are not finite: they would become black images.

    Args:
        latents: Latents (B, C, h, w).
        metadata: Metadata of the model that drew them.
        remedy: What to do, for the message.

    Raises:
        UserError: Some are not finite.
    """
    if not latents.isfinite().all():
        raise UserError(f"model {metadata.name}: its latents are not finite; {remedy}")
