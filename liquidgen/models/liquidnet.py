"""LiquidNet: the velocity network. With the block `liquid` it has no attention, and its cost is
linear in the number of pixels.

The path of this module is part of a file format: diffusers writes `liquidgen.models.liquidnet` into
model_index.json of every saved pipeline, and imports the class from there. Do not move it.
"""

from itertools import islice

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from liquidgen.config.settings import validate
from liquidgen.models.blocks import block_type
from liquidgen.models.layers.depthwise import DepthwiseConv2d
from liquidgen.models.layers.embeddings import ConditionEmbedding, PositionEmbedding
from liquidgen.models.layers.levels import read_levels
from liquidgen.models.layers.liquid import NORM_GROUPS, PointwiseConv
from liquidgen.models.layers.resample import Downsample, Upsample
from liquidgen.utils.errors import UserError


class LiquidNet(ModelMixin, ConfigMixin):
    """Predicts the velocity of the flow from noisy latents, times and labels.

    Levels form a U: each has half the side of the one before. Half of the blocks of each level run
    on the way down, the other half on the way up. On the way up, each block's input is the sum of
    what the block before it made and what its counterpart on the way down made.

    Args:
        in_channels: Channels of the latents.
        sample_size: Side of the latents; or height and width.
        num_classes: Number of classes; the label `num_classes` is the null label, "no class".
        width: Channels of the blocks of each level, multiples of the 16 groups of GroupNorm; a
            number for a network of one level.
        depth: Number of blocks of each level, even; a number for a network of one level.
        cond_dim: Size of the embedding of time and class.
        patch_size: Side of a patch, in latents; divides both sides.
        block: Block type, a module of liquidgen.models.blocks.
        block_settings: Settings of the block type.

    Raises:
        UserError: Sizes that do not divide, an odd depth, an unknown block type or its settings.
    """

    @register_to_config
    def __init__(
        self,
        in_channels: int,
        sample_size: int | list[int],
        num_classes: int,
        width: int | list[int],
        depth: int | list[int],
        cond_dim: int,
        patch_size: int,
        block: str,
        block_settings: dict,
    ) -> None:
        super().__init__()
        self.levels = read_levels(width, depth)
        size = [sample_size] * 2 if isinstance(sample_size, int) else sample_size
        if any(side % patch_size for side in size):
            raise UserError(
                f"latent size {sample_size}: must be a multiple of patch_size {patch_size}; "
                "choose another image_size"
            )
        kind = block_type(block)
        settings = validate(kind.Settings, block_settings, f"blocks.{block}")
        widths = [level.width for level in self.levels]
        first = widths[0]
        self.patch_embedding = nn.Conv2d(in_channels, first, patch_size, stride=patch_size)
        self.position = PositionEmbedding(first, [side // patch_size for side in size])
        self.condition = ConditionEmbedding(num_classes, cond_dim)
        self.project_depthwise = DepthwiseConv2d(first, 3)
        self.project_pointwise = PointwiseConv(first, first)
        # one flat list, in the order of execution: models of one level were saved with these names
        down = [level.width for level in self.levels for _ in range(level.down_depth)]
        self.blocks = nn.ModuleList(
            kind.Block(width, cond_dim, settings) for width in (*down, *reversed(down))
        )
        self.down = nn.ModuleList(map(Downsample, widths, widths[1:]))
        self.up = nn.ModuleList(map(Upsample, widths[1:], widths))
        self.out_norm = nn.GroupNorm(NORM_GROUPS, first, eps=1e-6)
        self.out_mix = PointwiseConv(first, first)
        self.unpatchify = nn.ConvTranspose2d(first, in_channels, patch_size, stride=patch_size)
        # without training, zero is the best guess of the velocity
        for parameter in self.unpatchify.parameters():
            nn.init.zeros_(parameter)
        self.gradient_checkpointing = False

    @property
    def null_label(self) -> int:
        """The label that means "no class": num_classes, so 0 in a network without classes."""
        return self.config.num_classes

    def forward(self, x_t: Tensor, t: Tensor, labels: Tensor) -> Tensor:
        """Predict the velocity.

        Args:
            x_t: Noisy latents (B, C, H, W).
            t: Times (B,) in [0, 1], 0 at the data.
            labels: Labels (B,) in [0, num_classes], or weights (B, num_classes + 1) of classes.

        Returns:
            Velocity (B, C, H, W).
        """
        cond = self.condition(t, labels)  # (B, E)
        x = self.position(self.patch_embedding(x_t))  # (B, D, h, w)
        x = F.gelu(self.project_pointwise(self.project_depthwise(x)))  # (B, D, h, w)
        skips: list[Tensor] = []
        blocks = iter(self.blocks)
        for i, level in enumerate(self.levels):
            if i > 0:
                x = self.down[i - 1](x)  # (B, D_i, h_i, w_i)
            for block in islice(blocks, level.down_depth):
                x = self._run(block, x, cond)
                skips.append(x)  # (B, D_i, h_i, w_i)
        for i, level in reversed(list(enumerate(self.levels))):
            for block in islice(blocks, level.down_depth):
                x = self._run(block, x + skips.pop(), cond)
            if i > 0:
                x = self.up[i - 1](x, skips[-1].shape[2:])
        x = F.gelu(self.out_mix(self.out_norm(x)))  # (B, D, h, w)
        return self.unpatchify(x)  # (B, C, H, W)

    def _run(self, block: nn.Module, x: Tensor, cond: Tensor) -> Tensor:
        if self.gradient_checkpointing and torch.is_grad_enabled():
            return checkpoint(block, x, cond, use_reentrant=False)
        return block(x, cond)
