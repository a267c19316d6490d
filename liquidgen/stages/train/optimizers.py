"""Optimizers by name, and their learning rate over a training.

AdamW, and Muon (Jordan et al. 2024), which orthogonalizes its momentum. torch.optim.Muon takes
matrices only, needs a second optimizer beside it, and iterates in bf16, which is many times slower
than fp32 on CPUs and GPUs without native bf16.

Only the decay of the learning rate depends on the length of a training, so that a longer one
continues from where a shorter one began it (Hu et al. 2024, arXiv 2404.06395, section 4:
warmup-stable-decay).
"""

import math
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
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
LARGEST = 96  # rows of a block: larger matrices are split, which takes less time

# factor of the learning rate by the share of its decay that is done, in (0, 1)
DECAYS: dict[str, Callable[[float], float]] = {
    "linear": lambda done: 1.0 - done,
    "cosine": lambda done: 0.5 + 0.5 * math.cos(math.pi * done),
}


@dataclass(frozen=True)
class Decay:
    """A fall of the learning rate to 0.

    Attributes:
        shape: A name of `DECAYS`.
        start: Steps before it.
        end: Steps of the whole training.
    """

    shape: str
    start: int
    end: int

    def factor(self, step: int) -> float:
        """Return the factor of the learning rate at a step from `start` to `end - 1`."""
        # the first step is slower already, and the last one still moves
        return DECAYS[self.shape]((step - self.start + 1) / (self.end - self.start + 1))


@dataclass(frozen=True)
class Schedule:
    """Factor of the learning rate at each step.

    Attributes:
        warmup_steps: Steps over which the factor grows linearly from 0 to 1.
        decay: What follows the constant rate; None: nothing.
    """

    warmup_steps: int
    decay: Decay | None = None

    def factor(self, step: int) -> float:
        """Return the factor of a step, counted from 0."""
        warmup = min(1.0, (step + 1) / max(1, self.warmup_steps))
        if self.decay and step >= self.decay.start:
            return warmup * self.decay.factor(step)
        return warmup


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
    """Return whether Muon updates a weight: one of a linear layer or of a dense 1x1 convolution."""
    sides = parameter.shape[2:]
    return parameter.ndim in (2, 4) and sides.numel() == 1 and min(parameter.shape[:2]) >= SMALLEST


class Muon(torch.optim.AdamW):
    """AdamW whose parameter groups with `orthogonalize: True` take Muon's steps instead.

    They hold matrices and dense 1x1 convolutions. Learning rate and weight decay mean the same.
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
        torch._foreach_lerp_(gradients, momenta, MOMENTUM)  # Nesterov
        torch._foreach_mul_(weights, 1 - group["lr"] * group["weight_decay"])

        # blocks of one shape are orthogonalized together
        by_shape = defaultdict(list)
        for weight, direction in zip(weights, gradients, strict=True):
            for block, update in zip(_blocks(weight), _blocks(direction), strict=True):
                by_shape[block.shape].append((block, update))
        for shape, pairs in by_shape.items():
            updates = orthogonalize(torch.stack([update for _, update in pairs]))
            rate = -group["lr"] * RMS * max(shape) ** 0.5
            torch._foreach_add_([block for block, _ in pairs], list(updates), alpha=rate)
        for weight in weights:
            weight.grad = None


def _blocks(weight: Tensor) -> tuple[Tensor, ...]:
    """Return views of a weight as matrices (R, C), R <= C, with at most LARGEST rows."""
    matrix = weight.view(weight.shape[:2])
    wide = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.mT
    return wide.tensor_split(math.ceil(len(wide) / LARGEST))


def orthogonalize(matrices: Tensor) -> Tensor:
    """Approximate U V^T of wide matrices U S V^T, (N, R, C): singular values end near 1.

    The iteration runs on Gram matrices, (N, R, R), and its product is applied once: P X.
    """
    a, b, c = QUINTIC
    gram = matrices @ matrices.mT
    norm2 = gram.diagonal(dim1=1, dim2=2).sum(1).clamp(min=1e-14).view(-1, 1, 1)
    gram = gram / norm2
    product = norm2.rsqrt()
    for step in range(STEPS):
        factor = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
        factor.diagonal(dim1=1, dim2=2).add_(a)
        product = factor @ product if step else factor * product
        if step + 1 < STEPS:
            gram = factor @ gram @ factor
    return product @ matrices
