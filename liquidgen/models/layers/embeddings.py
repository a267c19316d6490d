"""Embeddings of time, class and position."""

import torch
from diffusers.models.embeddings import TimestepEmbedding, Timesteps
from torch import Tensor, nn
from torch.nn import functional as F

TIME_CHANNELS = 256
TIME_SCALE = 1000  # t in [0, 1] spreads over the frequencies of the sinusoids


class ConditionEmbedding(nn.Module):
    """Sum of a time and a class embedding; `num_classes` is the null label.

    | argument | shape | range |
    |---|---|---|
    | t | (B,) | [0, 1], 0 = data |
    | labels | (B,) int64 | [0, num_classes] |
    | result | (B, cond_dim) | |
    """

    def __init__(self, num_classes: int, cond_dim: int) -> None:
        super().__init__()
        self.sinusoids = Timesteps(TIME_CHANNELS, flip_sin_to_cos=True, downscale_freq_shift=0)
        self.time = TimestepEmbedding(TIME_CHANNELS, cond_dim)
        self.label = nn.Embedding(num_classes + 1, cond_dim)
        nn.init.normal_(self.label.weight, std=0.02)

    def forward(self, t: Tensor, labels: Tensor) -> Tensor:
        time = self.time(self.sinusoids(t * TIME_SCALE).to(self.label.weight.dtype))
        return F.silu(time + self.label(labels))


class PositionEmbedding(nn.Module):
    """Learnable map added to the tokens; other grids than the trained one are interpolated."""

    def __init__(self, width: int, grid: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(0.02 * torch.randn(1, width, grid, grid))

    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight
        if x.shape[-2:] != weight.shape[-2:]:
            weight = F.interpolate(weight, x.shape[-2:], mode="bilinear", align_corners=False)
        return x + weight
