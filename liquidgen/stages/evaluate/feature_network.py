"""The feature network of the evaluation: what it sees of a picture, as one vector."""

import hashlib
import json
from pathlib import Path

import torch
from torch import nn
from torch.nn.functional import interpolate

ASSETS = Path(__file__).parent / "feature_weights"


class Residual(nn.Module):
    """Two 3x3 convolutions beside the identity (He et al. 2016)."""

    def __init__(self, width):
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.first_norm = nn.BatchNorm2d(width)
        self.second = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.second_norm = nn.BatchNorm2d(width)
        self.activation = nn.GELU()

    def forward(self, x):
        inner = self.activation(self.first_norm(self.first(x)))
        return self.activation(x + self.second_norm(self.second(inner)))


def convolve(channels, width, stride):
    """A 3x3 convolution with its norm and activation."""
    return nn.Sequential(
        nn.Conv2d(channels, width, 3, stride=stride, padding=1, bias=False),
        nn.BatchNorm2d(width),
        nn.GELU(),
    )


class FeatureNetwork(nn.Module):
    """A small convolutional network that sees structure, texture and color.

    | argument | is |
    |---|---|
    | name | written beside every score |
    | input_side | pictures are resized to this square, px; a multiple of 16 |
    | widths | channels at 1/2, 1/4 and 1/8 of the side |
    | layout_channels | channels of the 1/16 map that is kept with its positions |
    | num_features | length D of the feature vector |

    Pooled maps of every depth tell texture and color, the unpooled deepest map tells where
    things are; one linear layer joins them, normalized to unit variance over the training bank.
    """

    def __init__(self, name, input_side, widths, layout_channels, num_features):
        super().__init__()
        self.name, self.input_side, self.num_features = name, input_side, num_features
        self.digest = None
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
        num_places = (input_side // 16) ** 2
        self.join = nn.Linear(sum(widths) + layout_channels * num_places, num_features)
        self.norm = nn.BatchNorm1d(num_features, affine=False)

    def forward(self, pixels):
        """Features (B, D) of pixels (B, 3, H, W) in [-1, 1] of any size."""
        side = (self.input_side, self.input_side)
        if pixels.shape[-2:] != side:
            pixels = interpolate(pixels, side, mode="bicubic", antialias=True)
        x = self.unshuffle(pixels.clamp(-1, 1))  # (B, 12, S/2, S/2)
        seen = []
        for layer in self.stages:
            x = layer(x)
            seen.append(x.mean((2, 3)))
        return self.norm(self.join(torch.cat([*seen, self.layout(x)], 1)))  # (B, D)


def load_features(device):
    """The shipped feature network in evaluation mode, with the digest of its weights."""
    from safetensors.torch import load

    weights = (ASSETS / "features.safetensors").read_bytes()
    network = FeatureNetwork(**json.loads((ASSETS / "config.json").read_text()))
    network.load_state_dict({name: value.float() for name, value in load(weights).items()})
    network.digest = hashlib.sha256(weights).hexdigest()
    return network.to(device).eval().requires_grad_(False)
