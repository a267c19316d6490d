"""LiquidNet: the velocity network. With the block `liquid` it has no attention, and its cost is
linear in the number of pixels.

The path of this module is part of a file format: diffusers writes `liquidgen.models.liquidnet` into
model_index.json of every saved pipeline, and imports the class from there. Do not move it.
"""

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
from liquidgen.models.layers.liquid import NORM_GROUPS, PointwiseConv
from liquidgen.utils.errors import UserError


class LiquidNet(ModelMixin, ConfigMixin):
    """Predicts the velocity of the flow from noisy latents, times and labels.

    Args:
        in_channels: Channels of the latents.
        sample_size: Side of the latents.
        num_classes: Number of classes; the label `num_classes` is the null label, "no class".
        width: Channels of the blocks, a multiple of the 16 groups of GroupNorm.
        depth: Number of blocks; the outputs of the first half are added to the inputs of the
            second half, as in a U-Net.
        cond_dim: Size of the embedding of time and class.
        patch_size: Side of a patch, in latents; divides sample_size.
        block: Block type, a module of liquidgen.models.blocks.
        block_settings: Settings of the block type.

    Raises:
        UserError: Sizes that do not divide, an odd depth, an unknown block type or its settings.
    """

    @register_to_config
    def __init__(
        self,
        in_channels: int,
        sample_size: int,
        num_classes: int,
        width: int,
        depth: int,
        cond_dim: int,
        patch_size: int,
        block: str,
        block_settings: dict,
    ) -> None:
        super().__init__()
        if width % NORM_GROUPS:
            raise UserError(f"model width {width}: must be a multiple of {NORM_GROUPS}")
        if depth % 2:
            raise UserError(f"model depth {depth}: must be even, as half of the blocks give skips")
        if sample_size % patch_size:
            raise UserError(
                f"latent side {sample_size}: must be a multiple of patch_size {patch_size}; "
                "choose another image_size"
            )
        kind = block_type(block)
        settings = validate(kind.Settings, block_settings, f"blocks.{block}")
        self.patch_embedding = nn.Conv2d(in_channels, width, patch_size, stride=patch_size)
        self.position = PositionEmbedding(width, sample_size // patch_size)
        self.condition = ConditionEmbedding(num_classes, cond_dim)
        self.project_depthwise = DepthwiseConv2d(width, 3)
        self.project_pointwise = PointwiseConv(width, width)
        self.blocks = nn.ModuleList(kind.Block(width, cond_dim, settings) for _ in range(depth))
        self.out_norm = nn.GroupNorm(NORM_GROUPS, width, eps=1e-6)
        self.out_mix = PointwiseConv(width, width)
        self.unpatchify = nn.ConvTranspose2d(width, in_channels, patch_size, stride=patch_size)
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
            labels: Labels (B,) in [0, num_classes].

        Returns:
            Velocity (B, C, H, W).
        """
        cond = self.condition(t, labels)  # (B, E)
        x = self.position(self.patch_embedding(x_t))  # (B, D, h, w)
        x = F.gelu(self.project_pointwise(self.project_depthwise(x)))  # (B, D, h, w)
        half = len(self.blocks) // 2
        skips = []
        for block in self.blocks[:half]:
            x = self._run(block, x, cond)  # (B, D, h, w)
            skips.append(x)
        for block in self.blocks[half:]:
            x = self._run(block, x + skips.pop(), cond)  # (B, D, h, w)
        x = F.gelu(self.out_mix(self.out_norm(x)))  # (B, D, h, w)
        return self.unpatchify(x)  # (B, C, H, W)

    def _run(self, block: nn.Module, x: Tensor, cond: Tensor) -> Tensor:
        if self.gradient_checkpointing and torch.is_grad_enabled():
            return checkpoint(block, x, cond, use_reentrant=False)
        return block(x, cond)
