"""The liquid block: two closed-form liquid steps with convolutions and an MLP as their stimuli."""

from typing import Annotated, Literal

from pydantic import Field
from torch import Tensor, nn

from liquidgen.config import settings as base
from liquidgen.models.layers.liquid import (
    AdaptiveGroupNorm,
    ChannelMixMLP,
    GatedDepthwiseStimulusConv,
    LiquidTimeConstant,
    StimulusGate,
)
from liquidgen.models.layers.zigzag import ZigzagScan1D


class Settings(base.Settings):
    """Settings of a liquid block."""

    # limits that no network needs: a forged config.json must not ask for endless memory
    kernel_size: Annotated[base.OddCount, Field(lt=256)]
    scan_kernel_size: Annotated[base.OddCount, Field(lt=256)] | Literal[0]  # 0: no scan
    mlp_ratio: Annotated[base.Count, Field(lt=256)]
    alpha_init: Annotated[float, Field(gt=0, lt=1)]


class Block(nn.Module):
    """Maps x (B, D, H, W) and cond (B, E) to x of the same shape; starts as a pure decay of x."""

    def __init__(self, width: int, cond_dim: int, settings: Settings) -> None:
        super().__init__()
        self.norm_1 = AdaptiveGroupNorm(width, cond_dim)
        self.local = GatedDepthwiseStimulusConv(width, settings.kernel_size)
        scan_kernel = settings.scan_kernel_size
        self.scan = ZigzagScan1D(width, scan_kernel) if scan_kernel else None
        self.gate_1 = StimulusGate(width, cond_dim)
        self.liquid_1 = LiquidTimeConstant(width, settings.alpha_init)
        self.norm_2 = AdaptiveGroupNorm(width, cond_dim)
        self.mlp = ChannelMixMLP(width, settings.mlp_ratio)
        self.gate_2 = StimulusGate(width, cond_dim)
        self.liquid_2 = LiquidTimeConstant(width, settings.alpha_init)

    def forward(self, x: Tensor, cond: Tensor) -> Tensor:
        h = self.norm_1(x, cond)
        stimulus = self.local(h) if self.scan is None else self.local(h) + self.scan(h)
        x = self.liquid_1(x, stimulus, self.gate_1(cond))
        h = self.norm_2(x, cond)
        return self.liquid_2(x, self.mlp(h), self.gate_2(cond))
