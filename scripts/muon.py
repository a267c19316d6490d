"""Muon for convolutions: momentum whose matrices are orthogonalized (Jordan et al. 2024).

torch.optim.Muon takes matrices only and iterates in bf16, which is 15 times slower than fp32 on
CPUs without native bf16.
"""

import torch

QUINTIC = (3.4445, -4.7750, 2.0315)  # coefficients of the Newton-Schulz step
STEPS = 5
BLOCK_ROWS = 128  # taller matrices are split: the cost of a block grows with rows cubed


def orthogonalized(matrix: torch.Tensor) -> torch.Tensor:
    """Approximate U V^T of a wide matrix U S V^T: singular values end between 0.7 and 1.2.

    The iteration runs on the small Gram matrix, X_k = P_k X_0, instead of on the wide matrix.
    """
    a, b, c = QUINTIC
    matrix = matrix / matrix.norm().clamp(min=1e-7)
    gram = matrix @ matrix.T
    product = identity = torch.eye(len(gram))
    for _ in range(STEPS):
        factor = a * identity + b * gram + c * gram @ gram
        product = factor @ product
        gram = factor @ gram @ factor
    return product @ matrix


class Muon(torch.optim.Optimizer):
    """Nesterov momentum, orthogonalized in blocks of rows, scaled to the RMS of an AdamW step."""

    def __init__(self, params, lr: float, momentum: float):
        super().__init__(params, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self) -> None:
        for group in self.param_groups:
            for weight in group["params"]:
                self._update(weight, group["lr"], group["momentum"])

    def _update(self, weight: torch.Tensor, lr: float, momentum: float) -> None:
        buffer = self.state[weight].setdefault("momentum", torch.zeros_like(weight))
        buffer.lerp_(weight.grad, 1 - momentum)
        direction = weight.grad.lerp(buffer, momentum).flatten(1)
        blocks = [orthogonalized(block) for block in direction.split(BLOCK_ROWS)]
        scale = 0.2 * max(blocks[0].shape) ** 0.5
        weight.add_(torch.cat(blocks).view_as(weight), alpha=-lr * scale)
