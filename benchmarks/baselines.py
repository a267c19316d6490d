"""Networks that benchmarks compare: LiquidNet, and baselines of diffusers of equal parameters.

All take noisy latents, t and labels, and have the same tokens. The baselines are a DiT (Peebles &
Xie 2023) and a convolutional U-Net without attention.
"""

from dataclasses import dataclass

import torch
from diffusers import DiTTransformer2DModel, UNet2DModel
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from liquidgen.config.settings import ModelSettings
from liquidgen.models.layers.embeddings import TIME_SCALE
from liquidgen.models.liquidnet import LiquidNet

CLASSES = 10
CHANNELS = 16
FORMATS = (torch.contiguous_format, torch.channels_last)


@dataclass(frozen=True)
class Baseline:
    """Shapes whose parameters match a size of LiquidNet within 6%."""

    heads: int  # of the DiT
    head_dim: int  # channels per head
    layers: int
    unet: tuple[int, ...]  # channels per level of the U-Net
    unet_layers: int  # residual blocks per level


BASELINES = {
    "nano": Baseline(heads=4, head_dim=32, layers=5, unet=(64, 96), unet_layers=1),
    "tiny": Baseline(heads=4, head_dim=64, layers=7, unet=(96, 256), unet_layers=1),
    "small": Baseline(heads=9, head_dim=64, layers=8, unet=(160, 320, 448), unet_layers=2),
}


class DiT(nn.Module):
    """DiT of diffusers, with the interface of LiquidNet."""

    def __init__(self, shape: Baseline, patch_size: int, side: int) -> None:
        super().__init__()
        self.network = DiTTransformer2DModel(
            num_attention_heads=shape.heads,
            attention_head_dim=shape.head_dim,
            num_layers=shape.layers,
            in_channels=CHANNELS,
            out_channels=CHANNELS,
            sample_size=side,
            patch_size=patch_size,
            num_embeds_ada_norm=CLASSES,
        )

    def forward(self, x_t: Tensor, t: Tensor, labels: Tensor) -> Tensor:
        """Return the velocity, (B, C, H, W)."""
        return self.network(x_t, t * TIME_SCALE, labels).sample


class UNet(nn.Module):
    """U-Net of diffusers without attention; patches become channels, for equal tokens."""

    def __init__(self, shape: Baseline, patch_size: int, side: int) -> None:
        super().__init__()
        self.patch_size = patch_size
        levels = len(shape.unet)
        self.network = UNet2DModel(
            sample_size=side // patch_size,
            in_channels=CHANNELS * patch_size**2,
            out_channels=CHANNELS * patch_size**2,
            block_out_channels=shape.unet,
            down_block_types=("DownBlock2D",) * levels,
            up_block_types=("UpBlock2D",) * levels,
            layers_per_block=shape.unet_layers,
            norm_num_groups=16,
            add_attention=False,
            num_class_embeds=CLASSES + 1,
        )

    def forward(self, x_t: Tensor, t: Tensor, labels: Tensor) -> Tensor:
        """Return the velocity, (B, C, H, W)."""
        tokens = F.pixel_unshuffle(x_t, self.patch_size)
        velocity = self.network(tokens, t * TIME_SCALE, labels).sample
        return F.pixel_shuffle(velocity, self.patch_size)


def networks(size: str, model: ModelSettings, blocks: dict, side: int) -> dict[str, nn.Module]:
    """Create LiquidNet of a size, and its baselines, for latents of this side."""
    arguments = (BASELINES[size], model.patch_size, side)
    liquid = liquidnet(model, blocks, side)
    return {"LiquidNet": liquid, "DiT": DiT(*arguments), "U-Net": UNet(*arguments)}


def liquidnet(model: ModelSettings, blocks: dict, side: int) -> LiquidNet:
    """Create a LiquidNet for latents of this side."""
    settings = model.model_dump() | {"block": "liquid", "block_settings": blocks["liquid"]}
    return LiquidNet(in_channels=CHANNELS, sample_size=side, num_classes=CLASSES, **settings)


def batch(size: int, side: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return random noisy latents, t and labels."""
    labels = torch.arange(size) % CLASSES
    return torch.randn(size, CHANNELS, side, side), torch.rand(size), labels


def parameters(network: nn.Module) -> int:
    """Return the number of parameters."""
    return sum(weight.numel() for weight in network.parameters())


def forward_flops(network: nn.Module, side: int) -> int:
    """Count the floating-point operations of one image's forward pass, without computing it."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network.to("meta")(*(tensor.to("meta") for tensor in batch(1, side)))
    return counter.get_total_flops()
