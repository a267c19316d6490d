"""Steps between the levels of a network: space to depth, and depth to space.

In channels_last memory each is one copy and one matrix product.
"""

import torch
from torch import Tensor, nn

from liquidgen.models.layers.liquid import PointwiseConv


class Downsample(nn.Module):
    """Maps (B, C, H, W) to (B, D, H / 2, W / 2), rounded up; an odd side repeats its edge."""

    def __init__(self, in_width: int, out_width: int) -> None:
        super().__init__()
        self.mix = PointwiseConv(4 * in_width, out_width)

    def forward(self, x: Tensor) -> Tensor:
        # not F.pad: on a GPU its gradient differs from run to run
        for dim in (2, 3):
            if x.shape[dim] % 2:
                x = torch.cat([x, x.narrow(dim, x.shape[dim] - 1, 1)], dim)
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
