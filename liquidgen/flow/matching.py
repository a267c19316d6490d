"""Flow matching on straight paths: x_t = (1 - t) * latents + t * noise, velocity = noise - latents.

Lipman et al. 2023 (eq. 20-23) and Liu et al. 2023 (eq. 1), with t = 0 at the data.
"""

from collections.abc import Callable

import torch
from torch import Tensor

Velocity = Callable[[Tensor, Tensor, Tensor], Tensor]  # x_t, t, labels -> velocity


def interpolate(latents: Tensor, noise: Tensor, t: Tensor) -> Tensor:
    """Return x_t of latents and noise (B, C, h, w) at times t (B,)."""
    t = t[:, None, None, None]
    return (1 - t) * latents + t * noise


def flow_loss(model: Velocity, latents: Tensor, labels: Tensor, noise: Tensor, t: Tensor) -> Tensor:
    """Mean squared error of the velocity, one value per sample: (B,) (Liu et al. 2023, eq. 1)."""
    velocity = model(interpolate(latents, noise, t), t, labels)
    return (velocity.float() - (noise - latents)).square().mean(dim=(1, 2, 3))


def drop_labels(labels: Tensor, null_label: int, rate: float, uniforms: Tensor) -> Tensor:
    """Replace a share `rate` of the labels by the null label (Ho & Salimans 2022, alg. 1)."""
    return torch.where(uniforms < rate, null_label, labels)


def guided(model: Velocity, null_label: int, guidance_scale: float) -> Velocity:
    """Apply classifier-free guidance: null + guidance_scale * (conditional - null).

    Ho & Salimans 2022 (eq. 6, with guidance_scale = 1 + w). Conditional and null velocity are
    predicted in one call of the model with a doubled batch.

    Args:
        model: Velocity network that was trained with dropped labels.
        null_label: Label that stands for "no class".
        guidance_scale: 1 turns guidance off, and the batch is not doubled.

    Returns:
        The guided velocity.
    """
    if guidance_scale == 1:
        return model

    def velocity(x_t: Tensor, t: Tensor, labels: Tensor) -> Tensor:
        null_labels = torch.full_like(labels, null_label)
        if labels.is_floating_point():  # weights of classes, see LiquidNet.forward
            null_labels = torch.zeros_like(labels)
            null_labels[:, null_label] = 1
        both = torch.cat([labels, null_labels])
        conditional, null = model(x_t.repeat(2, 1, 1, 1), t.repeat(2), both).chunk(2)
        return torch.lerp(null, conditional, guidance_scale)

    return velocity
