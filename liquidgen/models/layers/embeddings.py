"""Embeddings of time, class and position."""

from collections.abc import Sequence

import torch
from diffusers.models.embeddings import TimestepEmbedding, Timesteps
from torch import Tensor, nn
from torch.nn import functional as F

TIME_CHANNELS = 256
TIME_SCALE = 1000  # the sinusoids are made for timesteps of 0..1000


class ConditionEmbedding(nn.Module):
    """Sum of a time and a class embedding; the label `num_classes` is the null label."""

    def __init__(self, num_classes: int, cond_dim: int) -> None:
        super().__init__()
        self.sinusoids = Timesteps(TIME_CHANNELS, flip_sin_to_cos=True, downscale_freq_shift=0)
        self.time = TimestepEmbedding(TIME_CHANNELS, cond_dim)
        self.label = nn.Embedding(num_classes + 1, cond_dim)
        nn.init.normal_(self.label.weight, std=0.02)

    def forward(self, t: Tensor, labels: Tensor) -> Tensor:
        """Embed times and labels.

        Args:
            t: Times (B,) in [0, 1], 0 at the data.
            labels: Labels (B,) in [0, num_classes], or weights (B, num_classes + 1) of their
                embeddings, which mixes classes.

        Returns:
            Embedding (B, cond_dim).
        """
        time = self.time(self.sinusoids(t * TIME_SCALE).to(self.label.weight.dtype))
        if labels.is_floating_point():
            return F.silu(time + labels.to(time.dtype) @ self.label.weight)
        return F.silu(time + self.label(labels))


class PositionEmbedding(nn.Module):
    """Learnable map added to the tokens; for another grid than the trained one it is resized."""

    def __init__(self, width: int, grid: Sequence[int]) -> None:
        super().__init__()
        self.weight = nn.Parameter(0.02 * torch.randn(1, width, *grid))

    def forward(self, x: Tensor) -> Tensor:
        weight: Tensor = self.weight
        if x.shape[-2:] != weight.shape[-2:]:
            weight = F.interpolate(weight, x.shape[-2:], mode="bilinear", align_corners=False)
        return x + weight
