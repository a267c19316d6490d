"""Optimizers by name: AdamW, and Muon (Jordan et al. 2024), which orthogonalizes its momentum.

torch.optim.Muon takes matrices only, needs a second optimizer beside it, and iterates in bf16,
which is many times slower than fp32 on CPUs and GPUs without native bf16.
"""

from collections import defaultdict
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from liquidgen.config.settings import TrainSettings

QUINTIC = (3.4445, -4.7750, 2.0315)  # coefficients of the Newton-Schulz step
STEPS = 3  # of the iteration; 5 gained nothing per optimizer step
MOMENTUM = 0.95
MOMENTUM_KEY = "momentum"  # in the state of a parameter
RMS = 0.2  # of an update, about that of AdamW: both take the same learning rate (Liu et al. 2025)
ORTHOGONALIZE = "orthogonalize"  # key of a parameter group
SMALLEST = 32  # shorter side of a matrix, below which AdamW updates it


def create_optimizer(model: nn.Module, settings: TrainSettings) -> torch.optim.AdamW:
    """Create the optimizer of a model's parameters.

    Matrices and convolutions decay; rho, biases, norms, position and class embedding never do.
    """
    decayed = {
        f"{name}.weight"
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear | nn.Conv2d | nn.ConvTranspose2d)
    }
    groups: dict[tuple[float, bool], list[nn.Parameter]] = defaultdict(list)
    for name, parameter in model.named_parameters():
        decay = settings.weight_decay if name in decayed else 0.0
        orthogonalize = settings.optimizer == "muon" and name in decayed and is_matrix(parameter)
        groups[decay, orthogonalize].append(parameter)
    beta1, beta2 = settings.betas
    return {"adamw": torch.optim.AdamW, "muon": Muon}[settings.optimizer](
        [
            {"params": parameters, "weight_decay": decay, ORTHOGONALIZE: orthogonalize}
            for (decay, orthogonalize), parameters in groups.items()
        ],
        lr=settings.learning_rate,
        betas=(beta1, beta2),
        fused=True,
    )


def is_matrix(parameter: Tensor) -> bool:
    """Return whether Muon updates a weight: one of a linear layer or of a dense convolution."""
    return parameter.ndim in (2, 4) and min(parameter.flatten(1).shape) >= SMALLEST


class Muon(torch.optim.AdamW):
    """AdamW whose parameter groups with `orthogonalize: True` take Muon's steps instead.

    They hold matrices and dense convolutions only; learning rate and weight decay mean the same.
    """

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Do one step; AdamW passes over parameters without gradient."""
        for group in self.param_groups:
            if group[ORTHOGONALIZE]:
                self._step(group)
        return super().step(closure)

    def _step(self, group: dict[str, Any]) -> None:
        weights = [weight for weight in group["params"] if weight.grad is not None]
        gradients = [weight.grad for weight in weights]
        momenta = [
            self.state[weight].setdefault(MOMENTUM_KEY, torch.zeros_like(weight))
            for weight in weights
        ]
        torch._foreach_lerp_(momenta, gradients, 1 - MOMENTUM)
        directions = torch._foreach_lerp(gradients, momenta, MOMENTUM)  # Nesterov
        torch._foreach_mul_(weights, 1 - group["lr"] * group["weight_decay"])

        # matrices of one shape are orthogonalized together
        by_shape = defaultdict(list)
        for weight, direction in zip(weights, directions, strict=True):
            by_shape[direction.flatten(1).shape].append((weight, direction.flatten(1)))
        for shape, pairs in by_shape.items():
            updates = orthogonalize(torch.stack([direction for _, direction in pairs]))
            scale = RMS * max(shape) ** 0.5
            for (weight, _), update in zip(pairs, updates, strict=True):
                weight.add_(update.view_as(weight), alpha=-group["lr"] * scale)
                weight.grad = None


def orthogonalize(matrices: Tensor) -> Tensor:
    """Approximate U V^T of matrices U S V^T, (N, R, C): singular values end near 1.

    The iteration runs on the Gram matrices of the shorter side, X_k = P_k X_0, instead of on X.
    """
    a, b, c = QUINTIC
    is_tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.mT if is_tall else matrices
    x = x / x.norm(dim=(1, 2), keepdim=True).clamp(min=1e-7)
    gram = x @ x.mT
    identity = torch.eye(gram.shape[1], device=x.device)
    product = identity.expand_as(gram)
    for _ in range(STEPS):
        factor = torch.baddbmm(a * identity + b * gram, gram, gram, alpha=c)
        product = factor @ product
        gram = factor @ gram @ factor
    x = product @ x
    return x.mT if is_tall else x
