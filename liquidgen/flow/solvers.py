"""Solvers of the flow's ODE from noise to latents: schedulers of diffusers by name."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from liquidgen.flow.matching import Velocity
from liquidgen.flow.schedulers import FLOW_SCHEDULERS, SOLVERS
from liquidgen.utils.errors import UserError


def scheduler_of(solver: str) -> Any:
    """Create the scheduler of a solver.

    Raises:
        UserError: The solver is unknown.
    """
    if solver not in SOLVERS:
        raise UserError(f"solver: no solver '{solver}'; choose one of {', '.join(SOLVERS)}")
    return SOLVERS[solver]()


def set_timesteps(scheduler: Any, num_inference_steps: int, device: torch.device | str) -> None:
    """Configure a scheduler for num_inference_steps steps from t = 1 to 0.

    Afterwards `scheduler.timesteps` has one entry per call of the model.

    Raises:
        UserError: The scheduler does not solve flows.
    """
    from diffusers import FlowMatchEulerDiscreteScheduler

    check_scheduler(scheduler)
    if isinstance(scheduler, FlowMatchEulerDiscreteScheduler):
        # the scheduler's default grid ends with a step of almost no length
        grid = torch.linspace(1, 1 / num_inference_steps, num_inference_steps).tolist()
        scheduler.set_timesteps(sigmas=grid, device=device)
    else:
        scheduler.set_timesteps(num_inference_steps, device=device)


def check_scheduler(scheduler: Any) -> None:
    """Check that a scheduler solves the flow's ODE, and adds no noise.

    Raises:
        UserError: It does not, or not as it is configured.
    """
    name = type(scheduler).__name__
    if not any(kind.__name__ in FLOW_SCHEDULERS for kind in type(scheduler).__mro__):
        known = ", ".join(FLOW_SCHEDULERS)
        raise UserError(f"scheduler: {name} does not solve the ODE of flows; take one of {known}")
    config = scheduler.config
    # the two FlowMatch classes know no other prediction
    flow = {"prediction_type": "flow_prediction", "use_flow_sigmas": True}
    if any(config.get(key, value) != value for key, value in flow.items()):
        options = ", ".join(f"{key}={value!r}" for key, value in flow.items())
        raise UserError(
            f"scheduler: {name} is not configured for flows; take "
            f"{name}.from_config(pipe.scheduler.config, {options})"
        )
    noisy = str(config.get("algorithm_type")).startswith("sde")
    if noisy or config.get("stochastic_sampling"):
        key = "algorithm_type" if noisy else "stochastic_sampling"
        raise UserError(
            f"scheduler: {name} adds noise at each step as {key} is {config[key]!r}, so images "
            f"would not depend on their seeds alone; leave {key} out"
        )
    if config.get("use_dynamic_shifting"):
        raise UserError(
            f"scheduler: {name} has use_dynamic_shifting: True, which needs a shift per call; "
            f"take {name}.from_config(pipe.scheduler.config, use_dynamic_shifting=False)"
        )


@dataclass
class Step:
    """A step that a scheduler has made.

    Attributes:
        number: Number of the call of the model, from 0.
        timestep: The scheduler's timestep of it.
        latents: Latents (B, C, h, w) after it; a caller may replace them.
    """

    number: int
    timestep: Tensor
    latents: Tensor


def steps(
    velocity: Velocity, noise: Tensor, labels: Tensor, *, scheduler: Any, num_inference_steps: int
) -> Iterator[Step]:
    """Solve the flow's ODE from noise (t = 1) to latents (t = 0), step by step.

    Args:
        velocity: Right side of the ODE.
        noise: Noise (B, C, h, w).
        labels: Labels (B,).
        scheduler: Flow-matching scheduler of diffusers.
        num_inference_steps: Steps of the solver.

    Yields:
        A step per call of the model; the last one has the solution.

    Raises:
        UserError: The scheduler does not solve flows.
    """
    set_timesteps(scheduler, num_inference_steps, noise.device)
    # an explicit start: rounded timesteps may repeat, and diffusers looks the first one up by value
    scheduler.set_begin_index(0)
    x = noise
    for i, timestep in enumerate(scheduler.timesteps):
        # sigma is t; some schedulers round their timesteps to whole thousandths
        t = scheduler.sigmas[i].to(x.device).expand(len(x))
        x = scheduler.step(velocity(x, t, labels), timestep, x, return_dict=False)[0]
        step = Step(i, timestep, x)
        yield step
        x = step.latents


@torch.inference_mode()
def solve(
    velocity: Velocity,
    noise: Tensor,
    labels: Tensor,
    *,
    scheduler: Any,
    num_inference_steps: int,
    after_step: Callable[[], object] = lambda: None,
) -> Tensor:
    """Return the latents (B, C, h, w) that `steps` ends with.

    Args:
        velocity: As for `steps`, and likewise the next ones.
        noise: Noise (B, C, h, w).
        labels: Labels (B,).
        scheduler: Flow-matching scheduler of diffusers.
        num_inference_steps: Steps of the solver.
        after_step: Called once per call of the model; may raise to stop.
    """
    x = noise
    options = {"scheduler": scheduler, "num_inference_steps": num_inference_steps}
    for step in steps(velocity, noise, labels, **options):
        x = step.latents
        after_step()
    return x
