"""Steps between the levels of a network: 2x2 positions become channels, and back.

In channels_last memory both are one copy and one matrix product.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from liquidgen.models.layers.liquid import PointwiseConv


class Downsample(nn.Module):
    """Maps (B, C, H, W) to (B, D, H / 2, W / 2), rounded up; an odd side repeats its edge."""

    def __init__(self, in_width: int, out_width: int) -> None:
        super().__init__()
        self.mix = PointwiseConv(4 * in_width, out_width)

    def forward(self, x: Tensor) -> Tensor:
        height, columns = x.shape[2:]
        if height % 2 or columns % 2:
            x = F.pad(x, (0, columns % 2, 0, height % 2), mode="replicate")
        x = x.permute(0, 2, 3, 1)
        x = x.unflatten(2, (-1, 2)).unflatten(1, (-1, 2))  # (B, H / 2, 2, W / 2, 2, C)
        return self.mix(x.transpose(2, 3).flatten(3).permute(0, 3, 1, 2))


class Upsample(nn.Module):
    """Maps (B, D, h, w) to (B, C, *size), where size is twice the sides, or one less."""

    def __init__(self, in_width: int, out_width: int) -> None:
        super().__init__()
        self.mix = PointwiseConv(in_width, 4 * out_width)

    def forward(self, x: Tensor, size: torch.Size) -> Tensor:
        x = self.mix(x).permute(0, 2, 3, 1)
        x = x.unflatten(3, (2, 2, -1)).transpose(2, 3)  # (B, h, 2, w, 2, C)
        x = x.flatten(3, 4).flatten(1, 2).permute(0, 3, 1, 2)
        return x[:, :, : size[0], : size[1]]
