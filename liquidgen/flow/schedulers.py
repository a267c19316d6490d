"""Schedulers of diffusers that solve the flow's ODE, by the names that `sample.solver` may have.

Settings read these names, so that this module must import neither torch nor diffusers: each
function does when it is called.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from diffusers import SchedulerMixin


def euler() -> "SchedulerMixin":
    """Euler's method, first order, one model call per step."""
    from diffusers import FlowMatchEulerDiscreteScheduler

    return FlowMatchEulerDiscreteScheduler()


def heun() -> "SchedulerMixin":
    """Heun's method, second order, two model calls per step but the last (Karras et al. 2022)."""
    from diffusers import FlowMatchHeunDiscreteScheduler

    return FlowMatchHeunDiscreteScheduler()


def dpm() -> "SchedulerMixin":
    """DPM-Solver++ 2M, second order, one model call per step (Lu et al. 2022)."""
    from diffusers import DPMSolverMultistepScheduler

    return DPMSolverMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, algorithm_type="dpmsolver++"
    )


def unipc() -> "SchedulerMixin":
    """UniPC, second order, one model call per step (Zhao et al. 2023)."""
    from diffusers import UniPCMultistepScheduler

    return UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True)


# the classes of diffusers that solve the ODE of flows: others solve another equation, or add noise
# at each step
FLOW_SCHEDULERS = (
    "FlowMatchEulerDiscreteScheduler",
    "FlowMatchHeunDiscreteScheduler",
    "DPMSolverMultistepScheduler",
    "DPMSolverSinglestepScheduler",
    "UniPCMultistepScheduler",
)
SOLVERS: dict[str, Callable[[], "SchedulerMixin"]] = {
    "euler": euler,
    "heun": heun,
    "dpm": dpm,
    "unipc": unipc,
}
