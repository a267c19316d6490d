"""Pictures as the feature network sees them."""

from typing import NamedTuple

from torch import Tensor


class LabeledFeatures(NamedTuple):
    """Features (N, D) and labels (N,) of pictures, on the CPU."""

    features: Tensor
    labels: Tensor
