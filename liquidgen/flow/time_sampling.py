"""Distributions of the training times t, by the names that `train.time_sampling` may have.

Each maps stratified uniforms to times of the same strata. Settings read the names, so that this
module must not import torch: functions do when they are called.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def uniform(uniforms: "Tensor") -> "Tensor":
    """t ~ U(0, 1)."""
    return uniforms


def logit_normal(uniforms: "Tensor") -> "Tensor":
    """t = sigmoid(n), n ~ N(0, 1): more weight on the middle (Esser et al. 2024, sec. 3.1)."""
    import torch

    # the inverse of the normal distribution turns stratified uniforms into stratified t
    return torch.sigmoid(torch.special.ndtri(uniforms.clamp(1e-6, 1 - 1e-6)))


TIME_SAMPLINGS: dict[str, Callable[["Tensor"], "Tensor"]] = {
    "uniform": uniform,
    "logit_normal": logit_normal,
}
