"""Feature networks, one module each, named as in params.yaml; the folder is the registry.

A module `<name>.py` defines `load()`, which returns a `FeatureNetwork` with the digest of its
weights. Scores are distances between the feature vectors of images.
"""

from importlib import import_module
from pkgutil import iter_modules
from typing import TYPE_CHECKING, Protocol

from liquidgen.utils.errors import UserError

if TYPE_CHECKING:
    import torch

FEATURE_NETWORKS = tuple(sorted(module.name for module in iter_modules(__path__)))


class FeatureNetwork(Protocol):
    """A frozen network from images to feature vectors.

    Attributes:
        name: Name of the network, part of the protocol of every score.
        digest: SHA-256 of its weights.
        input_side: Images are resized to this side, px.
        num_features: Length D of the feature vector.
    """

    name: str
    digest: str
    input_side: int
    num_features: int

    def __call__(self, pixels: "torch.Tensor") -> "torch.Tensor":
        """Compute features (B, D) of pixels (B, 3, H, W) in [-1, 1], of any size."""


def load_feature_network(name: str, device: "str | torch.device") -> FeatureNetwork:
    """Load a feature network in evaluation mode.

    Raises:
        UserError: There is no module of this name, or its weights are missing or damaged.
    """
    if name not in FEATURE_NETWORKS:
        raise UserError(
            f"evaluate.features: no feature network '{name}'; choose one of "
            f"{', '.join(FEATURE_NETWORKS)}"
        )
    network = import_module(f"{__name__}.{name}").load()
    return network.to(device).eval().requires_grad_(False)


def resize(pixels: "torch.Tensor", side: int) -> "torch.Tensor":
    """Resize pixels (B, 3, H, W) in [-1, 1] to (B, 3, side, side), for a network's input."""
    from torch.nn.functional import interpolate

    if pixels.shape[-2:] != (side, side):
        pixels = interpolate(pixels, (side, side), mode="bicubic", antialias=True)
    return pixels.clamp(-1, 1)  # bicubic interpolation overshoots
