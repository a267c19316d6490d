"""The parts of a liquid block. All maps are (B, D, H, W), best in channels_last memory."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from liquidgen.models.layers.depthwise import DepthwiseConv2d

NORM_GROUPS = 16


class PointwiseConv(nn.Linear):
    """1x1 convolution as a matrix product over channels.

    In channels_last memory the permutes are views; the product then runs as one GEMM, where a
    1x1 nn.Conv2d falls off the fast path at small batches.
    """

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class AdaptiveGroupNorm(nn.Module):
    """GroupNorm whose scale and shift come from the condition (Dhariwal & Nichol 2021, sec. 3).

    Zero-initialised, so it starts as a plain GroupNorm.
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
    """Per-channel gate of a stimulus, (B, D, 1, 1), set by the condition and zero at the start.

    The zero start makes a new block a pure decay of its state, the adaLN-Zero idea of
    Peebles & Xie 2023 (sec. 3.2) for a liquid state.
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

    Two separate depthwise convolutions: one grouped D -> 2D convolution leaves the fast path.
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

    alpha = exp(-softplus(rho)), one learnable rho a channel (Hasani et al. 2022, the closed
    form; LiquidTAD, arXiv 2604.18274, for the static decay). alpha equals sigmoid(-rho).
    """

    def __init__(self, width: int, alpha_init: float) -> None:
        super().__init__()
        self.rho = nn.Parameter(torch.full((width,), math.log(1 / alpha_init - 1)))

    @property
    def alpha(self) -> Tensor:
        """Share of the state that a step keeps, (D,) in (0, 1)."""
        return torch.exp(-F.softplus(self.rho))

    def forward(self, state: Tensor, stimulus: Tensor, gate: Tensor) -> Tensor:
        alpha = self.alpha[:, None, None].to(state.dtype)
        # small factors are multiplied first: each pass over the map costs as much as a norm
        return torch.addcmul(alpha * state, (1 - alpha) * gate, stimulus)


class ChannelMixMLP(nn.Module):
    """Two-layer perceptron over channels at each position."""

    def __init__(self, width: int, ratio: int) -> None:
        super().__init__()
        self.expand = nn.Linear(width, ratio * width)
        self.contract = nn.Linear(ratio * width, width)

    def forward(self, x: Tensor) -> Tensor:
        # channels stay last until the end: GELU's gradient on a permuted map makes copies
        x = x.permute(0, 2, 3, 1)
        return self.contract(F.gelu(self.expand(x))).permute(0, 3, 1, 2)
