"""The shipped feature network: small and fast; it hardly tells objects apart."""

import json
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from liquidgen.features import resize
from liquidgen.utils.files import sha256

WEIGHTS_FOLDER = Path(__file__).parent / "builtin_weights"


class Residual(nn.Module):
    """Residual block of two 3x3 convolutions (He et al. 2016)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.first_norm = nn.BatchNorm2d(width)
        self.second = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.second_norm = nn.BatchNorm2d(width)
        self.activation = nn.GELU()

    def forward(self, x: Tensor) -> Tensor:
        inner = self.activation(self.first_norm(self.first(x)))
        return self.activation(x + self.second_norm(self.second(inner)))


def convolve(channels: int, width: int, stride: int) -> nn.Sequential:
    """Create a 3x3 convolution with norm and activation."""
    return nn.Sequential(
        nn.Conv2d(channels, width, 3, stride=stride, padding=1, bias=False),
        nn.BatchNorm2d(width),
        nn.GELU(),
    )


class BuiltinFeatures(nn.Module):
    """Small convolutional network for features of structure, texture and color.

    The average-pooled maps of all depths tell texture and color, the last map, which is not pooled,
    tells the layout; a linear layer joins them, normalized to unit variance over its training
    images.

    Args:
        name: Name of the network, part of the protocol of every score.
        input_side: Images are resized to this side, px; a multiple of 16.
        widths: Channels at 1/2, 1/4 and 1/8 of the side.
        layout_channels: Channels of the map at 1/16 of the side.
        num_features: Length D of the feature vector.
    """

    def __init__(
        self,
        name: str,
        input_side: int,
        widths: Sequence[int],
        layout_channels: int,
        num_features: int,
    ) -> None:
        super().__init__()
        self.name = name
        self.input_side = input_side
        self.num_features = num_features
        self.digest = ""  # set by `load`
        self.unshuffle = nn.PixelUnshuffle(2)
        fine, middle, deep = widths
        self.stages = nn.ModuleList(
            [
                convolve(12, fine, stride=1),
                nn.Sequential(convolve(fine, middle, stride=2), Residual(middle)),
                nn.Sequential(convolve(middle, deep, stride=2), Residual(deep)),
            ]
        )
        self.layout = nn.Sequential(
            convolve(deep, deep, stride=2),
            nn.Conv2d(deep, layout_channels, 1),
            nn.Flatten(),
        )
        num_positions = (input_side // 16) ** 2
        self.join = nn.Linear(sum(widths) + layout_channels * num_positions, num_features)
        self.norm = nn.BatchNorm1d(num_features, affine=False)

    def forward(self, pixels: Tensor) -> Tensor:
        """Compute features (B, D) of pixels (B, 3, H, W) in [-1, 1], of any size."""
        x = self.unshuffle(resize(pixels, self.input_side))  # (B, 12, S/2, S/2)
        pooled = []
        for layer in self.stages:
            x = layer(x)
            pooled.append(x.mean((2, 3)))
        return self.norm(self.join(torch.cat([*pooled, self.layout(x)], 1)))  # (B, D)


def load() -> BuiltinFeatures:
    """Load the network with the shipped weights."""
    from safetensors.torch import load as read

    weights = (WEIGHTS_FOLDER / "features.safetensors").read_bytes()
    network = BuiltinFeatures(**json.loads((WEIGHTS_FOLDER / "config.json").read_text()))
    network.load_state_dict({name: value.float() for name, value in read(weights).items()})
    network.digest = sha256(weights)
    return network
