"""The attention block of DiT (Peebles & Xie 2023, sec. 3.2, adaLN-Zero): the rival of `liquid`.

Its cost is quadratic in the number of tokens. Feature maps are fastest in channels_last memory.
"""

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from liquidgen.config import settings as base
from liquidgen.models.layers.liquid import ChannelMixMLP
from liquidgen.utils.errors import UserError


class Settings(base.Settings):
    """Settings of an attention block."""

    # limits that no network needs: a forged config.json must not ask for endless memory
    head_dim: Annotated[base.Count, Field(le=256)]
    mlp_ratio: Annotated[base.Count, Field(lt=256)]


class Block(nn.Module):
    """Maps x (B, D, H, W) and cond (B, E) to x of the same shape; starts as the identity.

    Raises:
        UserError: The width is not a multiple of head_dim.
    """

    def __init__(self, width: int, cond_dim: int, settings: Settings) -> None:
        super().__init__()
        self.attention = SelfAttention(width, settings.head_dim)
        self.mlp = ChannelMixMLP(width, settings.mlp_ratio)
        for module in self.modules():
            if isinstance(module, nn.Linear):  # as DiT; torch's default is smaller
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)
        # no SiLU before it, as cond ends with one
        self.modulation = nn.Linear(cond_dim, 6 * width)
        nn.init.zeros_(self.modulation.weight)
        nn.init.zeros_(self.modulation.bias)

    def forward(self, x: Tensor, cond: Tensor) -> Tensor:
        modulation = self.modulation(cond)[:, :, None, None]
        shift_1, scale_1, gate_1, shift_2, scale_2, gate_2 = modulation.chunk(6, dim=1)
        h = modulated_layer_norm(x, shift_1, scale_1)
        x = torch.addcmul(x, gate_1, self.attention(h))
        h = modulated_layer_norm(x, shift_2, scale_2)
        return torch.addcmul(x, gate_2, self.mlp(h))


class SelfAttention(nn.Module):
    """Multi-head attention of every position to all positions; (B, D, H, W) stays that."""

    def __init__(self, width: int, head_dim: int) -> None:
        super().__init__()
        if width % head_dim:
            raise UserError(
                f"model width {width}: must be a multiple of blocks.attention.head_dim {head_dim}; "
                "change one of them"
            )
        self.head_dim = head_dim
        self.query_key_value = nn.Linear(width, 3 * width)
        self.mix = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        sides = x.shape[2:]
        tokens = x.permute(0, 2, 3, 1).flatten(1, 2)  # (B, H * W, D), a view in channels_last
        query, key, value = (
            part.unflatten(2, (-1, self.head_dim)).transpose(1, 2)
            for part in self.query_key_value(tokens).chunk(3, dim=2)
        )
        read = F.scaled_dot_product_attention(query, key, value)  # (B, heads, H * W, head_dim)
        tokens = self.mix(read.transpose(1, 2).flatten(2))  # (B, H * W, D)
        return tokens.unflatten(1, sides).permute(0, 3, 1, 2)


def modulated_layer_norm(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """LayerNorm over the channels of each position, with shift and scale (B, D, 1, 1)."""
    x = x.permute(0, 2, 3, 1)
    normalized = F.layer_norm(x, x.shape[-1:], eps=1e-6).permute(0, 3, 1, 2)
    return torch.addcmul(shift, normalized, 1 + scale)
