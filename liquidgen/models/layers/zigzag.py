"""The zigzag scan: a 1-D convolution along a serpentine path through the image."""

import torch
from torch import Tensor, nn

from liquidgen.models.layers.depthwise import DepthwiseConv2d
from liquidgen.models.layers.liquid import PointwiseConv


def serpentine_order(height: int, width: int, device: torch.device) -> Tensor:
    """Return the positions of a row-major grid along the serpentine, as (height * width,) int64.

    Rows go left to right, then right to left, so each step moves to a neighbor in the image. The
    order is its own inverse, because it only mirrors every second row.
    """
    # computed in each call, which is within 1% of a forward pass: a cache would pass tensors of
    # inference mode on to training, and torch.compile ignores it
    rows = torch.arange(height * width, device=device).reshape(height, width)
    rows[1::2] = rows[1::2].flip(1)
    return rows.flatten()


class ZigzagScan1D(nn.Module):
    """Stimulus along the serpentine: a depthwise 1-D convolution, then mixed over channels.

    Unlike in a raster scan (compare Hu et al. 2024, ZigMa) a row's end is followed by its neighbor
    in the next row, not by the other side of the image.
    """

    def __init__(self, width: int, kernel_size: int) -> None:
        super().__init__()
        self.scan = DepthwiseConv2d(width, (1, kernel_size))
        self.mix = PointwiseConv(width, width)

    def forward(self, x: Tensor) -> Tensor:
        batch, width, height, columns = x.shape
        order = serpentine_order(height, columns, x.device)
        # index_select on the channels_last view is the cheapest form of the serpentine
        tokens = x.permute(0, 2, 3, 1).reshape(batch, height * columns, width)
        path = tokens.index_select(1, order)[:, None].permute(0, 3, 1, 2)  # channels_last as well
        tokens = self.scan(path).permute(0, 2, 3, 1).squeeze(1).index_select(1, order)
        return self.mix(tokens.reshape(batch, height, columns, width).permute(0, 3, 1, 2))
