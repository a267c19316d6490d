"""Layers of the liquid block. Feature maps are (B, D, H, W), fastest in channels_last memory."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from liquidgen.models.layers.depthwise import DepthwiseConv2d

NORM_GROUPS = 16


class PointwiseConv(nn.Linear):
    """1x1 convolution as a matrix product over channels.

    In channels_last memory the permutes are views and the product is one GEMM; a 1x1 nn.Conv2d
    leaves the fast path at small batches.
    """

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class AdaptiveGroupNorm(nn.Module):
    """GroupNorm with scale and shift from the condition (AdaGN, Dhariwal & Nichol 2021, sec. 3).

    Zero-initialized, so it starts as a plain GroupNorm.
    """

    def __init__(self, width: int, cond_dim: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(NORM_GROUPS, width, eps=1e-6, affine=False)
        self.modulation = nn.Linear(cond_dim, 2 * width)
        nn.init.zeros_(self.modulation.weight)
        nn.init.zeros_(self.modulation.bias)

    def forward(self, x: Tensor, cond: Tensor) -> Tensor:
        scale, shift = self.modulation(cond)[:, :, None, None].chunk(2, dim=1)
        return torch.addcmul(shift, self.norm(x), 1 + scale)


class StimulusGate(nn.Module):
    """Gate of a stimulus from the condition, one value per channel: (B, D, 1, 1).

    Zero-initialized, so a new block is a pure decay of its state: adaLN-Zero (Peebles & Xie 2023,
    sec. 3.2) for a liquid state.
    """

    def __init__(self, width: int, cond_dim: int) -> None:
        super().__init__()
        self.gate = nn.Linear(cond_dim, width)
        nn.init.zeros_(self.gate.weight)
        nn.init.zeros_(self.gate.bias)

    def forward(self, cond: Tensor) -> Tensor:
        return self.gate(cond)[:, :, None, None]


class GatedDepthwiseStimulusConv(nn.Module):
    """Local stimulus: a depthwise convolution gated by a second one, then mixed over channels.

    They are two convolutions because a grouped one from D to 2D channels leaves the fast path.
    """

    def __init__(self, width: int, kernel_size: int) -> None:
        super().__init__()
        self.value = DepthwiseConv2d(width, kernel_size)
        self.gate = DepthwiseConv2d(width, kernel_size)
        self.mix = PointwiseConv(width, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.mix(self.value(x) * torch.sigmoid(self.gate(x)))


class LiquidTimeConstant(nn.Module):
    """Closed-form liquid step: `alpha * state + (1 - alpha) * gate * stimulus`.

    alpha = exp(-softplus(rho)) = sigmoid(-rho) with one learnable rho per channel: the closed form
    of Hasani et al. 2022 (CfC), with a static decay as in LiquidTAD (arXiv 2604.18274).
    """

    def __init__(self, width: int, alpha_init: float) -> None:
        super().__init__()
        self.rho = nn.Parameter(torch.full((width,), math.log(1 / alpha_init - 1)))

    @property
    def alpha(self) -> Tensor:
        """Share of the state that a step keeps: (D,) in (0, 1)."""
        return torch.exp(-F.softplus(self.rho))

    def forward(self, state: Tensor, stimulus: Tensor, gate: Tensor) -> Tensor:
        alpha = self.alpha[:, None, None].to(state.dtype)
        # small factors first: each pass over a whole feature map costs as much as a norm
        return torch.addcmul(alpha * state, (1 - alpha) * gate, stimulus)


class ChannelMixMLP(nn.Module):
    """MLP of two layers over the channels of each position."""

    def __init__(self, width: int, ratio: int) -> None:
        super().__init__()
        self.expand = nn.Linear(width, ratio * width)
        self.contract = nn.Linear(ratio * width, width)

    def forward(self, x: Tensor) -> Tensor:
        # channels stay last until the end: the gradient of GELU copies a permuted map
        x = x.permute(0, 2, 3, 1)
        return self.contract(F.gelu(self.expand(x))).permute(0, 3, 1, 2)
