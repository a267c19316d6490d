"""Inception v3 of 2015 with the weights of torch-fidelity: the network of published FIDs.

Inception v3 (Szegedy et al. 2015) as the graph of Heusel et al. 2017 has it: average pools leave
out the padding, the last block has a maximum pool, and images are resized as TensorFlow 1 did. The
names of the modules are those of the weights.
"""

from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, max_pool2d

from liquidgen.utils.errors import UserError, reason_of
from liquidgen.utils.files import file_sha256

ADDRESS = (
    "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/"
    "weights-inception-2015-12-05-6726825d.pth"
)
SHA256 = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"
INPUT_SIDE = 299  # px
NUM_FEATURES = 2048
EPSILON = 1e-3  # of norms


class Convolution(nn.Module):
    """Convolution, norm and ReLU."""

    def __init__(
        self,
        channels: int,
        width: int,
        side: int | tuple[int, int],
        stride: int = 1,
        padding: int | tuple[int, int] = 0,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, width, side, stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(width, EPSILON)

    def forward(self, x: Tensor) -> Tensor:
        return self.bn(self.conv(x)).relu()


wide = partial(Convolution, side=(1, 7), padding=(0, 3))
tall = partial(Convolution, side=(7, 1), padding=(3, 0))
same = partial(Convolution, side=3, padding=1)


def average(x: Tensor) -> Tensor:
    """Average over 3x3 tokens, of which those beyond the edge do not count."""
    return avg_pool2d(x, 3, 1, 1, count_include_pad=False)


class Mixed5(nn.Module):
    """Inception block of 35 x 35 tokens."""

    def __init__(self, channels: int, pooled: int) -> None:
        super().__init__()
        self.branch1x1 = Convolution(channels, 64, 1)
        self.branch5x5_1 = Convolution(channels, 48, 1)
        self.branch5x5_2 = Convolution(48, 64, 5, padding=2)
        self.branch3x3dbl_1 = Convolution(channels, 64, 1)
        self.branch3x3dbl_2 = same(64, 96)
        self.branch3x3dbl_3 = same(96, 96)
        self.branch_pool = Convolution(channels, pooled, 1)

    def forward(self, x: Tensor) -> Tensor:
        double = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        five = self.branch5x5_2(self.branch5x5_1(x))
        return torch.cat([self.branch1x1(x), five, double, self.branch_pool(average(x))], 1)


class Mixed6a(nn.Module):
    """Reduction to 17 x 17 tokens."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.branch3x3 = Convolution(channels, 384, 3, 2)
        self.branch3x3dbl_1 = Convolution(channels, 64, 1)
        self.branch3x3dbl_2 = same(64, 96)
        self.branch3x3dbl_3 = Convolution(96, 96, 3, 2)

    def forward(self, x: Tensor) -> Tensor:
        double = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        return torch.cat([self.branch3x3(x), double, max_pool2d(x, 3, 2)], 1)


class Mixed6(nn.Module):
    """Inception block of 17 x 17 tokens."""

    def __init__(self, inner: int) -> None:
        super().__init__()
        self.branch1x1 = Convolution(768, 192, 1)
        self.branch7x7_1 = Convolution(768, inner, 1)
        self.branch7x7_2 = wide(inner, inner)
        self.branch7x7_3 = tall(inner, 192)
        self.branch7x7dbl_1 = Convolution(768, inner, 1)
        self.branch7x7dbl_2 = tall(inner, inner)
        self.branch7x7dbl_3 = wide(inner, inner)
        self.branch7x7dbl_4 = tall(inner, inner)
        self.branch7x7dbl_5 = wide(inner, 192)
        self.branch_pool = Convolution(768, 192, 1)

    def forward(self, x: Tensor) -> Tensor:
        seven = self.branch7x7_3(self.branch7x7_2(self.branch7x7_1(x)))
        double = self.branch7x7dbl_3(self.branch7x7dbl_2(self.branch7x7dbl_1(x)))
        double = self.branch7x7dbl_5(self.branch7x7dbl_4(double))
        return torch.cat([self.branch1x1(x), seven, double, self.branch_pool(average(x))], 1)


class Mixed7a(nn.Module):
    """Reduction to 8 x 8 tokens."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.branch3x3_1 = Convolution(channels, 192, 1)
        self.branch3x3_2 = Convolution(192, 320, 3, 2)
        self.branch7x7x3_1 = Convolution(channels, 192, 1)
        self.branch7x7x3_2 = wide(192, 192)
        self.branch7x7x3_3 = tall(192, 192)
        self.branch7x7x3_4 = Convolution(192, 192, 3, 2)

    def forward(self, x: Tensor) -> Tensor:
        seven = self.branch7x7x3_3(self.branch7x7x3_2(self.branch7x7x3_1(x)))
        three = self.branch3x3_2(self.branch3x3_1(x))
        return torch.cat([three, self.branch7x7x3_4(seven), max_pool2d(x, 3, 2)], 1)


class Mixed7(nn.Module):
    """Inception block of 8 x 8 tokens; the last one has a maximum pool."""

    def __init__(self, channels: int, is_last: bool) -> None:
        super().__init__()
        self._is_last = is_last
        self.branch1x1 = Convolution(channels, 320, 1)
        self.branch3x3_1 = Convolution(channels, 384, 1)
        self.branch3x3_2a = Convolution(384, 384, (1, 3), padding=(0, 1))
        self.branch3x3_2b = Convolution(384, 384, (3, 1), padding=(1, 0))
        self.branch3x3dbl_1 = Convolution(channels, 448, 1)
        self.branch3x3dbl_2 = same(448, 384)
        self.branch3x3dbl_3a = Convolution(384, 384, (1, 3), padding=(0, 1))
        self.branch3x3dbl_3b = Convolution(384, 384, (3, 1), padding=(1, 0))
        self.branch_pool = Convolution(channels, 192, 1)

    def forward(self, x: Tensor) -> Tensor:
        three = self.branch3x3_1(x)
        double = self.branch3x3dbl_2(self.branch3x3dbl_1(x))
        branches = [
            self.branch1x1(x),
            self.branch3x3_2a(three),
            self.branch3x3_2b(three),
            self.branch3x3dbl_3a(double),
            self.branch3x3dbl_3b(double),
            self.branch_pool(max_pool2d(x, 3, 1, 1) if self._is_last else average(x)),
        ]
        return torch.cat(branches, 1)


class Inception(nn.Module):
    """The network up to its last pool: a `FeatureNetwork`."""

    name = "inception"
    input_side = INPUT_SIDE
    num_features = NUM_FEATURES

    def __init__(self) -> None:
        super().__init__()
        self.digest = SHA256
        self.Conv2d_1a_3x3 = Convolution(3, 32, 3, 2)
        self.Conv2d_2a_3x3 = Convolution(32, 32, 3)
        self.Conv2d_2b_3x3 = same(32, 64)
        self.Conv2d_3b_1x1 = Convolution(64, 80, 1)
        self.Conv2d_4a_3x3 = Convolution(80, 192, 3)
        self.Mixed_5b = Mixed5(192, 32)
        self.Mixed_5c = Mixed5(256, 64)
        self.Mixed_5d = Mixed5(288, 64)
        self.Mixed_6a = Mixed6a(288)
        self.Mixed_6b = Mixed6(128)
        self.Mixed_6c = Mixed6(160)
        self.Mixed_6d = Mixed6(160)
        self.Mixed_6e = Mixed6(192)
        self.Mixed_7a = Mixed7a(768)
        self.Mixed_7b = Mixed7(1280, is_last=False)
        self.Mixed_7c = Mixed7(2048, is_last=True)

    def forward(self, pixels: Tensor) -> Tensor:
        """Compute features (B, D) of pixels (B, 3, H, W) in [-1, 1], of any size."""
        levels = ((pixels + 1) * 127.5).round()
        x = (resize_as_tensorflow(levels, INPUT_SIDE) - 128) / 128
        x = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(x)))
        x = self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(max_pool2d(x, 3, 2)))
        x = self.Mixed_5d(self.Mixed_5c(self.Mixed_5b(max_pool2d(x, 3, 2))))
        x = self.Mixed_6e(self.Mixed_6d(self.Mixed_6c(self.Mixed_6b(self.Mixed_6a(x)))))
        return self.Mixed_7c(self.Mixed_7b(self.Mixed_7a(x))).mean((2, 3))


def resize_as_tensorflow(images: Tensor, side: int) -> Tensor:
    """Resize images (B, C, H, W) bilinearly, with the pixels' corners as their places, unsmoothed.

    `resize_bilinear` of TensorFlow 1: pixel i of the result is at i * H / side of the image.
    """
    rows, columns = (
        _interpolation(size, side, images.device, images.dtype) for size in images.shape[2:]
    )
    return rows @ images @ columns.T


def _interpolation(size: int, side: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """Return the matrix (side, size) of the weights of `size` pixels in each of `side`."""
    places = torch.arange(side, dtype=torch.float32, device=device) * (size / side)
    lower = places.long()
    share = places - lower
    matrix = torch.zeros(side, size, device=device)
    numbers = torch.arange(side, device=device)
    matrix[numbers, lower] = 1 - share
    matrix[numbers, (lower + 1).clamp(max=size - 1)] += share
    return matrix.to(dtype)


def weights_path() -> Path:
    """Return the place of the weights: where torch-fidelity and torch.hub download them to."""
    return Path(torch.hub.get_dir()) / "checkpoints" / ADDRESS.rpartition("/")[2]


def load() -> Inception:
    """Load the network; downloads the weights once.

    Raises:
        UserError: They are neither there nor to be downloaded, or are damaged.
    """
    path = weights_path()
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            torch.hub.download_url_to_file(ADDRESS, str(path), SHA256)
        except (OSError, RuntimeError) as error:  # of the network; of the digest
            raise UserError(
                f"evaluate.features: inception needs weights of 96 MB, and their download failed "
                f"({reason_of(error)}); put {ADDRESS} at {path}"
            ) from None
    if file_sha256(path) != SHA256:
        raise UserError(f"{path}: other weights than expected; delete it, and run this again")
    weights = torch.load(path, map_location="cpu", weights_only=True)
    network = Inception()
    network.load_state_dict({k: v for k, v in weights.items() if not k.startswith("fc.")})
    return network
