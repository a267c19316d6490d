"""DiCo (Ai et al. 2025, arXiv 2505.11196): a published attention-free rival, from its mathematics.

Blocks of a depthwise convolution with channel attention, in a U of three levels of width D, 2D and
4D. Time and class are embedded anew in each level. The last 1x1 of each half block is gated by the
condition, and the modulation starts at zero, as in a DiT.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
from diffusers.models.embeddings import TimestepEmbedding, Timesteps
from torch import Tensor, nn
from torch.nn import functional as F

from liquidgen.models.layers.depthwise import DepthwiseConv2d
from liquidgen.models.layers.embeddings import TIME_CHANNELS, TIME_SCALE
from liquidgen.models.layers.liquid import PointwiseConv

MLP_RATIO = 2


class ModulatedNorm(nn.Module):
    """LayerNorm over the channels of each position, with scale and shift from the condition."""

    def forward(self, x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
        """Normalize x (B, D, H, W); scale and shift are (B, D, 1, 1)."""
        normalized = F.layer_norm(x.permute(0, 2, 3, 1), x.shape[1:2], eps=1e-6)
        return torch.addcmul(shift, normalized.permute(0, 3, 1, 2), 1 + scale)


class Block(nn.Module):
    """Convolution module and feed-forward module (eq. 2-5), each a gated residual."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = ModulatedNorm()
        self.modulation = nn.Linear(width, 6 * width)
        self.expand = PointwiseConv(width, width)
        self.depthwise = DepthwiseConv2d(width, 3)
        self.attention = nn.Linear(width, width)  # over channels, of the mean over positions
        self.project = PointwiseConv(width, width)
        self.up = PointwiseConv(width, MLP_RATIO * width)
        self.down = PointwiseConv(MLP_RATIO * width, width)
        nn.init.zeros_(self.modulation.weight)
        nn.init.zeros_(self.modulation.bias)

    def forward(self, x: Tensor, cond: Tensor) -> Tensor:
        """Map x (B, D, H, W) and cond (B, D) to x of the same shape."""
        parts = self.modulation(cond)[:, :, None, None].chunk(6, dim=1)
        scale_1, shift_1, gate_1, scale_2, shift_2, gate_2 = parts
        h = self.norm(x, scale_1, shift_1)
        h = F.gelu(self.depthwise(self.expand(h)))
        h = h * torch.sigmoid(self.attention(h.mean(dim=(2, 3))))[:, :, None, None]
        x = torch.addcmul(x, gate_1, self.project(h))
        h = self.norm(x, scale_2, shift_2)
        return torch.addcmul(x, gate_2, self.down(F.gelu(self.up(h))))


class Condition(nn.Module):
    """Sum of a time and a class embedding, activated: (B, D)."""

    def __init__(self, classes: int, width: int) -> None:
        super().__init__()
        self.sinusoids = Timesteps(TIME_CHANNELS, flip_sin_to_cos=True, downscale_freq_shift=0)
        self.time = TimestepEmbedding(TIME_CHANNELS, width)
        self.label = nn.Embedding(classes + 1, width)
        nn.init.normal_(self.label.weight, std=0.02)

    def forward(self, t: Tensor, labels: Tensor) -> Tensor:
        """Embed times in [0, 1] and labels, both (B,)."""
        return F.silu(self.time(self.sinusoids(t * TIME_SCALE)) + self.label(labels))


class DiCo(nn.Module):
    """Velocity network.

    Args:
        channels: Channels of the tokens, in and out.
        classes: Number of classes; the label `classes` is the null label.
        width: Channels of the first level.
        blocks: Blocks per level, from the first to the deepest, which has them once; the others
            have as many again on the way up.
    """

    def __init__(self, channels: int, classes: int, width: int, blocks: Sequence[int]) -> None:
        super().__init__()
        widths = [width * 2**level for level in range(len(blocks))]
        self.patch_embedding = nn.Conv2d(channels, width, 3, padding=1)
        self.conditions = nn.ModuleList(Condition(classes, w) for w in widths)
        self.encoder = nn.ModuleList(_blocks(w, n) for w, n in zip(widths, blocks, strict=True))
        pairs = list(pairwise(widths))
        # halved channels, then 2x2 positions become channels: twice as many; up is the reverse
        self.downs = nn.ModuleList(nn.Conv2d(w, w // 2, 3, padding=1) for w, _ in pairs)
        self.ups = nn.ModuleList(nn.Conv2d(deep, 2 * deep, 3, padding=1) for _, deep in pairs)
        self.merges = nn.ModuleList(PointwiseConv(2 * w, w) for w in widths[:-1])
        self.decoder = nn.ModuleList(
            _blocks(w, n) for w, n in zip(widths[:-1], blocks[:-1], strict=True)
        )
        self.norm = ModulatedNorm()
        self.modulation = nn.Linear(width, 2 * width)
        self.out = nn.Conv2d(width, channels, 3, padding=1)
        for module in (self.modulation, self.out):
            nn.init.zeros_(module.weight)
            nn.init.zeros_(module.bias)

    def forward(self, x: Tensor, t: Tensor, labels: Tensor) -> Tensor:
        """Return the velocity of tokens (B, C, H, W)."""
        conditions = [condition(t, labels) for condition in self.conditions]
        x = self.patch_embedding(x)
        skips = []
        for level, stage in enumerate(self.encoder):
            for block in stage:
                x = block(x, conditions[level])
            if level < len(self.downs):
                skips.append(x)
                x = F.pixel_unshuffle(self.downs[level](x), 2)
        for level in reversed(range(len(self.downs))):
            x = F.pixel_shuffle(self.ups[level](x), 2)
            x = self.merges[level](torch.cat([x, skips.pop()], dim=1))
            for block in self.decoder[level]:
                x = block(x, conditions[level])
        scale, shift = self.modulation(conditions[0])[:, :, None, None].chunk(2, dim=1)
        return self.out(self.norm(x, scale, shift))


def _blocks(width: int, count: int) -> nn.ModuleList:
    return nn.ModuleList(Block(width) for _ in range(count))
