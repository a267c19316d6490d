"""DiCo (Ai et al. 2025, arXiv 2505.11196): a published attention-free rival, from its mathematics.

Blocks of a depthwise convolution with channel attention, in a U of three levels of width D, 2D and
4D, whose last part stays at 2D. Each width has a condition of its own. The residuals are gated by
the condition, and the modulation starts at zero, as in a DiT. Unlike in the authors' code, the
convolutions between the levels have a bias.
"""

from collections.abc import Sequence

import torch
from diffusers.models.embeddings import TimestepEmbedding
from torch import Tensor, nn
from torch.nn import functional as F

from liquidgen.models.blocks.attention import modulated_layer_norm
from liquidgen.models.layers.depthwise import DepthwiseConv2d
from liquidgen.models.layers.embeddings import ConditionEmbedding
from liquidgen.models.layers.liquid import ChannelMixMLP, PointwiseConv

MLP_RATIO = 2


class Block(nn.Module):
    """Convolution module and feed-forward module, each a gated residual."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.modulation = nn.Linear(width, 6 * width)
        self.expand = PointwiseConv(width, width)
        self.depthwise = DepthwiseConv2d(width, 3)
        self.attention = nn.Linear(width, width)  # over channels, of the mean over positions
        self.project = PointwiseConv(width, width)
        self.mlp = ChannelMixMLP(width, MLP_RATIO)

    def forward(self, x: Tensor, cond: Tensor) -> Tensor:
        """Map x (B, D, H, W) and cond (B, D) to x of the same shape."""
        parts = self.modulation(cond)[:, :, None, None].chunk(6, dim=1)
        shift_1, scale_1, gate_1, shift_2, scale_2, gate_2 = parts
        h = F.gelu(self.depthwise(self.expand(modulated_layer_norm(x, shift_1, scale_1))))
        h = h * torch.sigmoid(self.attention(h.mean(dim=(2, 3))))[:, :, None, None]
        x = torch.addcmul(x, gate_1, self.project(h))
        return torch.addcmul(x, gate_2, self.mlp(modulated_layer_norm(x, shift_2, scale_2)))


class DiCo(nn.Module):
    """Velocity network.

    Args:
        channels: Channels of the tokens, in and out.
        classes: Number of classes; the label `classes` is the null label.
        width: Channels of the first level.
        blocks: Blocks of each of the three levels; the first two have as many on the way up.
    """

    def __init__(self, channels: int, classes: int, width: int, blocks: Sequence[int]) -> None:
        super().__init__()
        first, middle, deepest = blocks
        self.patch_embedding = nn.Conv2d(channels, width, 3, padding=1)
        self.conditions = nn.ModuleList(ConditionEmbedding(classes, width * n) for n in (1, 2, 4))
        self.encoder_1 = _blocks(width, first)
        self.down_1 = nn.Conv2d(width, width // 2, 3, padding=1)  # 2x2 positions become channels
        self.encoder_2 = _blocks(2 * width, middle)
        self.down_2 = nn.Conv2d(2 * width, width, 3, padding=1)
        self.deepest = _blocks(4 * width, deepest)
        self.up_2 = nn.Conv2d(4 * width, 8 * width, 3, padding=1)  # channels become 2x2 positions
        self.merge_2 = PointwiseConv(4 * width, 2 * width)
        self.decoder_2 = _blocks(2 * width, middle)
        self.up_1 = nn.Conv2d(2 * width, 4 * width, 3, padding=1)
        self.merge_1 = PointwiseConv(2 * width, 2 * width)
        self.decoder_1 = _blocks(2 * width, first)
        self.modulation = nn.Linear(2 * width, 4 * width)
        self.out = nn.Conv2d(2 * width, channels, 3, padding=1)
        self._initialize()

    def forward(self, x: Tensor, t: Tensor, labels: Tensor) -> Tensor:
        """Return the velocity of tokens (B, C, H, W), whose sides divide by 4."""
        cond_1, cond_2, cond_4 = (condition(t, labels) for condition in self.conditions)
        skip_1 = _run(self.encoder_1, self.patch_embedding(x), cond_1)
        skip_2 = _run(self.encoder_2, F.pixel_unshuffle(self.down_1(skip_1), 2), cond_2)
        x = _run(self.deepest, F.pixel_unshuffle(self.down_2(skip_2), 2), cond_4)
        x = self.merge_2(torch.cat([F.pixel_shuffle(self.up_2(x), 2), skip_2], dim=1))
        x = _run(self.decoder_2, x, cond_2)
        x = self.merge_1(torch.cat([F.pixel_shuffle(self.up_1(x), 2), skip_1], dim=1))
        x = _run(self.decoder_1, x, cond_2)
        shift, scale = self.modulation(cond_2)[:, :, None, None].chunk(2, dim=1)
        return self.out(modulated_layer_norm(x, shift, scale))

    def _initialize(self) -> None:
        """Initialize as a DiT (Peebles & Xie 2023), which DiCo follows."""
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Conv2d):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)
        for condition in self.conditions:
            initialize_time(condition.time)
        blocks = (module for module in self.modules() if isinstance(module, Block))
        for layer in (*(block.modulation for block in blocks), self.modulation, self.out):
            nn.init.zeros_(layer.weight)


def initialize_time(embedding: TimestepEmbedding) -> None:
    """Initialize the MLP of the time as a DiT does."""
    for layer in (embedding.linear_1, embedding.linear_2):
        nn.init.normal_(layer.weight, std=0.02)


def _blocks(width: int, count: int) -> nn.ModuleList:
    return nn.ModuleList(Block(width) for _ in range(count))


def _run(blocks: nn.ModuleList, x: Tensor, cond: Tensor) -> Tensor:
    for block in blocks:
        x = block(x, cond)
    return x
