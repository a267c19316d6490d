"""Solvers of the flow's ODE from noise to latents, each a scheduler of diffusers by name."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from liquidgen.flow.matching import Velocity
from liquidgen.flow.schedulers import SOLVERS
from liquidgen.utils.errors import UserError


def scheduler_of(solver: str):
    """A new scheduler; raises UserError for an unknown solver."""
    if solver not in SOLVERS:
        raise UserError(f"solver: no solver '{solver}'; choose one of {', '.join(SOLVERS)}")
    return SOLVERS[solver]()


def set_timesteps(scheduler: Any, num_steps: int, device: torch.device | str) -> None:
    """Let a scheduler go from noise to data in so many steps; it lists its calls of the model.

    Raises UserError for a scheduler of diffusers that does not solve flows.
    """
    from diffusers import FlowMatchEulerDiscreteScheduler

    if isinstance(scheduler, FlowMatchEulerDiscreteScheduler):
        # its own grid ends with a step of almost no length
        grid = torch.linspace(1, 1 / num_steps, num_steps).tolist()
        scheduler.set_timesteps(sigmas=grid, device=device)
    else:
        scheduler.set_timesteps(num_steps, device=device)
    sigmas = getattr(scheduler, "sigmas", None)
    if sigmas is None or max(sigmas) > 1:
        raise UserError(
            f"scheduler: {type(scheduler).__name__} does not solve flows as it is configured; "
            f"take one of the solvers {', '.join(SOLVERS)}"
        )


@torch.inference_mode()
def solve(
    velocity: Velocity,
    noise: Tensor,
    labels: Tensor,
    *,
    scheduler: Any,
    num_steps: int,
    after_step: Callable[[], object] = lambda: None,
) -> Tensor:
    """Latents (B, C, h, w) that the flow carries noise (B, C, h, w) to, for labels (B,).

    `after_step` is called once for each call of the model, for progress bars.
    """
    set_timesteps(scheduler, num_steps, noise.device)
    scheduler.set_begin_index(0)  # rounded timesteps may repeat and not tell where to begin
    x = noise
    for i, timestep in enumerate(scheduler.timesteps):
        # sigma is t; some schedulers round their timesteps to whole thousandths
        t = scheduler.sigmas[i].to(x.device).expand(len(x))
        x = scheduler.step(velocity(x, t, labels), timestep, x, return_dict=False)[0]
        after_step()
    return x
