"""A block type of your own: an inverted bottleneck (Sandler et al. 2018) under adaLN-Zero.

A block type is one file with two classes, `Settings` and `Block`. To train with this one:

    cp examples/own_block.py liquidgen/models/blocks/

Add its settings to `blocks` in params.yaml, under the name of the file:

    own_block: {kernel_size: 7, expansion: 2}

Then `dvc exp run -S block=own_block`. This file also runs by itself, and checks the block:

    python examples/own_block.py
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from liquidgen.config import settings as base
from liquidgen.models.layers.depthwise import DepthwiseConv2d
from liquidgen.models.layers.liquid import AdaptiveGroupNorm, PointwiseConv, StimulusGate


class Settings(base.Settings):
    """Keys of `blocks.own_block`. There are no defaults: every value is in params.yaml."""

    kernel_size: base.OddCount  # of the depthwise convolution, tokens
    expansion: base.Count  # hidden channels / width


class Block(nn.Module):
    """Maps x (B, width, H, W) and cond (B, cond_dim) to the shape of x.

    LiquidNet stacks them, with the width of their level. `cond` is the embedding of time and class.
    """

    def __init__(self, width: int, cond_dim: int, settings: Settings) -> None:
        super().__init__()
        hidden = settings.expansion * width
        self.norm = AdaptiveGroupNorm(width, cond_dim)
        self.expand = PointwiseConv(width, hidden)
        self.depthwise = DepthwiseConv2d(hidden, settings.kernel_size)
        self.contract = PointwiseConv(hidden, width)
        self.gate = StimulusGate(width, cond_dim)  # zero at the start: a new block is the identity

    def forward(self, x: Tensor, cond: Tensor) -> Tensor:
        h = self.expand(self.norm(x, cond))
        h = self.contract(F.gelu(self.depthwise(h)))
        return x + self.gate(cond) * h


def main() -> None:
    """Check what LiquidNet expects of a block."""
    torch.manual_seed(0)
    x = torch.randn(2, 64, 8, 8)
    cond = torch.randn(2, 32)
    block = Block(width=64, cond_dim=32, settings=Settings(kernel_size=7, expansion=2))
    assert torch.equal(block(x, cond), x)  # as it starts

    nn.init.ones_(block.gate.gate.bias)  # with an open gate, gradients reach every parameter
    y = block(x, cond)
    assert y.shape == x.shape
    y.square().mean().backward()
    assert all(parameter.grad is not None for parameter in block.parameters())
    count = sum(parameter.numel() for parameter in block.parameters())
    print(f"own_block: {tuple(x.shape)} -> {tuple(y.shape)}, {count:,} parameters")


if __name__ == "__main__":
    main()
