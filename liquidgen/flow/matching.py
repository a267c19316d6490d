"""Flow matching on straight paths: x_t = (1 - t) * latents + t * noise, velocity = noise - latents.

Lipman et al. 2023 (eq. 20-23) and Liu et al. 2023 (eq. 1), with t = 0 at the data.
"""

from collections.abc import Callable

import torch
from torch import Tensor

Velocity = Callable[[Tensor, Tensor, Tensor], Tensor]  # x_t, t, labels -> velocity


def interpolate(latents: Tensor, noise: Tensor, t: Tensor) -> Tensor:
    """x_t of latents and noise (B, C, h, w) at times t (B,)."""
    t = t[:, None, None, None]
    return (1 - t) * latents + t * noise


def flow_loss(model: Velocity, latents: Tensor, labels: Tensor, noise: Tensor, t: Tensor) -> Tensor:
    """Mean squared error of the velocity, one value a sample: (B,)."""
    velocity = model(interpolate(latents, noise, t), t, labels)
    return (velocity.float() - (noise - latents)).square().mean(dim=(1, 2, 3))


def drop_labels(labels: Tensor, null_label: int, rate: float, uniforms: Tensor) -> Tensor:
    """Labels with a share of `rate` replaced by the null label (Ho & Salimans 2022, alg. 1)."""
    return torch.where(uniforms < rate, null_label, labels)


def guided(model: Velocity, null_label: int, guidance_scale: float) -> Velocity:
    """The model under classifier-free guidance: null + scale * (conditional - null).

    Ho & Salimans 2022 (eq. 6, with scale = 1 + w). A scale of 1 is off and costs one call a step.
    """
    if guidance_scale == 1:
        return model

    def velocity(x_t: Tensor, t: Tensor, labels: Tensor) -> Tensor:
        both = torch.cat([labels, torch.full_like(labels, null_label)])
        conditional, null = model(x_t.repeat(2, 1, 1, 1), t.repeat(2), both).chunk(2)
        return torch.lerp(null, conditional, guidance_scale)

    return velocity


def integrate(velocity: Velocity, noise: Tensor, labels: Tensor, num_steps: int) -> Tensor:
    """Euler's method from noise (t = 1) to latents (t = 0), for previews during training."""
    x = noise
    for step in range(num_steps, 0, -1):
        t = torch.full((len(x),), step / num_steps, device=x.device)
        x = x - velocity(x, t, labels) / num_steps
    return x
