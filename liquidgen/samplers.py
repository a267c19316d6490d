"""Solvers of the flow's ODE from noise to latents, each a scheduler of diffusers by name."""

from collections.abc import Callable

import torch
from torch import Tensor

from liquidgen.errors import UserError
from liquidgen.flow import Velocity


def euler():
    """Euler's method, first order, one model call a step."""
    from diffusers import FlowMatchEulerDiscreteScheduler

    return FlowMatchEulerDiscreteScheduler()


def heun():
    """Heun's method, second order, two model calls a step but the last (Karras et al. 2022)."""
    from diffusers import FlowMatchHeunDiscreteScheduler

    return FlowMatchHeunDiscreteScheduler()


def dpm():
    """DPM-Solver++ 2M, second order, one model call a step (Lu et al. 2022)."""
    from diffusers import DPMSolverMultistepScheduler

    return DPMSolverMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, algorithm_type="dpmsolver++"
    )


def unipc():
    """UniPC, second order, one model call a step (Zhao et al. 2023)."""
    from diffusers import UniPCMultistepScheduler

    return UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True)


SOLVERS: dict[str, Callable] = {"euler": euler, "heun": heun, "dpm": dpm, "unipc": unipc}


@torch.inference_mode()
def solve(
    velocity: Velocity, noise: Tensor, labels: Tensor, *, solver: str, num_steps: int
) -> Tensor:
    """Latents (B, C, h, w) that the flow carries noise (B, C, h, w) to, for labels (B,).

    Raises UserError for an unknown solver.
    """
    if solver not in SOLVERS:
        raise UserError(f"sample.solver: no solver '{solver}'; choose one of {', '.join(SOLVERS)}")
    scheduler = SOLVERS[solver]()
    if solver == "euler":  # its own grid ends with a step of almost no length
        grid = torch.linspace(1, 1 / num_steps, num_steps).tolist()
        scheduler.set_timesteps(sigmas=grid, device=noise.device)
    else:
        scheduler.set_timesteps(num_steps, device=noise.device)
    scheduler.set_begin_index(0)  # rounded timesteps may repeat and not tell where to begin
    x = noise
    for i, timestep in enumerate(scheduler.timesteps):
        # sigma is t; some schedulers round their timesteps to whole thousandths
        t = scheduler.sigmas[i].to(x.device).expand(len(x))
        x = scheduler.step(velocity(x, t, labels), timestep, x, return_dict=False)[0]
    return x
