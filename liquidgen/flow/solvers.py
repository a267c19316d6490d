"""Solvers of the flow's ODE from noise to latents: schedulers of diffusers by name."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from liquidgen.flow.matching import Velocity
from liquidgen.flow.schedulers import SOLVERS
from liquidgen.utils.errors import UserError


def scheduler_of(solver: str) -> Any:
    """Create the scheduler of a solver.

    Raises:
        UserError: The solver is unknown.
    """
    if solver not in SOLVERS:
        raise UserError(f"solver: no solver '{solver}'; choose one of {', '.join(SOLVERS)}")
    return SOLVERS[solver]()


def set_timesteps(scheduler: Any, num_steps: int, device: torch.device | str) -> None:
    """Configure a scheduler for num_steps steps from t = 1 to 0.

    Afterwards `scheduler.timesteps` has one entry per call of the model.

    Raises:
        UserError: The scheduler does not solve flows.
    """
    from diffusers import FlowMatchEulerDiscreteScheduler

    if isinstance(scheduler, FlowMatchEulerDiscreteScheduler):
        # the scheduler's default grid ends with a step of almost no length
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
    """Solve the flow's ODE from noise (t = 1) to latents (t = 0).

    Args:
        velocity: Right side of the ODE.
        noise: Noise (B, C, h, w).
        labels: Labels (B,).
        scheduler: Flow-matching scheduler of diffusers.
        num_steps: Steps of the solver.
        after_step: Called once per call of the model, for progress bars; may raise to stop.

    Returns:
        Latents (B, C, h, w).
    """
    set_timesteps(scheduler, num_steps, noise.device)
    # an explicit start: rounded timesteps may repeat, and diffusers looks the first one up by value
    scheduler.set_begin_index(0)
    x = noise
    for i, timestep in enumerate(scheduler.timesteps):
        # sigma is t; some schedulers round their timesteps to whole thousandths
        t = scheduler.sigmas[i].to(x.device).expand(len(x))
        x = scheduler.step(velocity(x, t, labels), timestep, x, return_dict=False)[0]
        after_step()
    return x
