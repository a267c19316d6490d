"""Every solver on flows with known ends: its end, its order, its number of model calls."""

import re
from functools import cache

import diffusers
import pytest
import torch

from liquidgen.flow.schedulers import FLOW_SCHEDULERS, SOLVERS
from liquidgen.flow.solvers import scheduler_of, solve
from liquidgen.models.liquidnet import LiquidNet
from liquidgen.utils.errors import UserError

MEAN = 1.5  # of two equal Gaussians at -MEAN and MEAN
STD = 0.5
CALLS = {
    "euler": lambda steps: steps,
    "heun": lambda steps: 2 * steps - 1,
    "dpm": lambda steps: steps,
    "unipc": lambda steps: steps,
}
LABELS = torch.arange(6)


def wide(t):
    return t[:, None, None, None]


def two_gaussians(x_t, t, labels):
    """Return the true velocity E[noise - latents | x_t] of values from two Gaussians."""
    x_t = x_t.double()
    t = wide(t.double())
    variance = (1 - t) ** 2 * STD**2 + t**2
    right = torch.sigmoid(2 * x_t * (1 - t) * MEAN / variance)  # share of the one at MEAN
    slope = (t - (1 - t) * STD**2) / variance
    parts = [
        share * (slope * (x_t - (1 - t) * mean) - mean)
        for share, mean in ((right, MEAN), (1 - right, -MEAN))
    ]
    return sum(parts)


def ends():
    """Return latents over the range of the two Gaussians, and the noise that their flow starts at.

    In one dimension a flow keeps quantiles.
    """
    latents = torch.linspace(-2.8, 2.8, 108).double().reshape(6, 2, 3, 3)
    quantiles = [torch.special.ndtr((latents - mean) / STD) for mean in (-MEAN, MEAN)]
    return latents, torch.special.ndtri(sum(quantiles) / 2)


@cache
def error(solver, num_inference_steps):
    latents, noise = ends()
    found = solve(
        two_gaussians,
        noise,
        LABELS,
        scheduler=scheduler_of(solver),
        num_inference_steps=num_inference_steps,
    )
    return (found - latents).abs().mean().item()


def calls(solver, num_inference_steps):
    """Solve a flow to a point; returns the times of the model calls."""
    torch.manual_seed(0)
    latents = 2 * torch.randn(6, 2, 3, 3)
    noise = torch.randn(6, 2, 3, 3)
    times = []

    def velocity(x_t, t, labels):
        assert t.shape == (6,)
        assert torch.equal(labels, LABELS)
        times.append(t[0].item())
        return (x_t - latents) / wide(t)

    found = solve(
        velocity,
        noise,
        LABELS,
        scheduler=scheduler_of(solver),
        num_inference_steps=num_inference_steps,
    )
    torch.testing.assert_close(found, latents, rtol=0, atol=1e-5)
    return times


@pytest.mark.parametrize("num_inference_steps", [1, 2, 3, 20, 50])
@pytest.mark.parametrize("solver", SOLVERS)
def test_flow_to_a_point_ends_in_it(solver, num_inference_steps):
    """In the documented number of model calls."""
    times = calls(solver, num_inference_steps)
    assert len(times) == CALLS[solver](num_inference_steps)
    assert times[0] == pytest.approx(1, abs=2e-3)
    assert times == sorted(times, reverse=True)
    assert times[-1] > 0


@pytest.mark.parametrize("solver", SOLVERS)
def test_more_than_1000_steps_are_allowed(solver):
    """Although some schedulers round timesteps to whole thousandths."""
    assert len(calls(solver, 1001)) == CALLS[solver](1001)


def test_euler_steps_are_equal():
    torch.testing.assert_close(calls("euler", 10), [i / 10 for i in range(10, 0, -1)])


@pytest.mark.parametrize(("solver", "order"), [("euler", 1), ("heun", 2)])
def test_error_falls_at_the_order_of_the_solver(solver, order):
    for num_inference_steps in (40, 80):
        ratio = error(solver, num_inference_steps) / error(solver, 2 * num_inference_steps)
        assert ratio == pytest.approx(2**order, rel=0.1)


@pytest.mark.parametrize("solver", sorted(SOLVERS.keys() - {"euler"}))
def test_other_solvers_beat_euler_at_equal_calls(solver):
    for budget in (20, 40, 80):
        num_inference_steps = next(n for n in range(budget, 0, -1) if CALLS[solver](n) <= budget)
        assert error(solver, num_inference_steps) < error("euler", budget) / 4


@pytest.mark.parametrize("solver", SOLVERS)
def test_network_can_train_after_solving(solver):
    """The solver keeps no gradients."""
    torch.manual_seed(0)
    settings = {"kernel_size": 3, "scan_kernel_size": 3, "mlp_ratio": 2, "alpha_init": 0.9}
    model = LiquidNet(4, 6, 6, 16, 2, 16, 1, "liquid", settings)
    noise = torch.randn(6, 4, 6, 6)
    t = torch.rand(6)
    assert not solve(
        model, noise, LABELS, scheduler=scheduler_of(solver), num_inference_steps=2
    ).requires_grad
    (model(noise, t, LABELS) - noise).square().mean().backward()
    assert model.unpatchify.weight.grad.abs().sum() > 0


def test_unknown_solver_is_refused():
    with pytest.raises(UserError, match="solver: no solver 'eular'; choose one of euler, heun"):
        scheduler_of("eular")


FLOW = {"prediction_type": "flow_prediction", "use_flow_sigmas": True}


@pytest.mark.parametrize("name", FLOW_SCHEDULERS)
def test_schedulers_of_diffusers_solve_flows(name):
    """As users exchange them, from the config of another one."""
    scheduler = getattr(diffusers, name).from_config(scheduler_of("euler").config, **FLOW)
    latents, noise = ends()
    options = {"scheduler": scheduler, "num_inference_steps": 40}
    found = solve(two_gaussians, noise, LABELS, **options)
    assert (found - latents).abs().mean() < 0.05


REFUSED = [
    ("EulerDiscreteScheduler", {}, "EulerDiscreteScheduler does not solve the ODE of flows; take"),
    (
        "DDIMScheduler",
        FLOW,
        "DDIMScheduler does not solve the ODE of flows; take one of FlowMatchE",
    ),
    ("FlowMatchLCMScheduler", {}, "FlowMatchLCMScheduler does not solve the ODE of flows"),
    ("UniPCMultistepScheduler", {}, "take UniPCMultistepScheduler.from_config(pipe.scheduler.conf"),
    ("DPMSolverMultistepScheduler", {"use_flow_sigmas": True}, "prediction_type='flow_prediction'"),
    (
        "DPMSolverMultistepScheduler",
        FLOW | {"algorithm_type": "sde-dpmsolver++"},
        "adds noise at each step as algorithm_type is 'sde-dpmsolver++'",
    ),
    (
        "FlowMatchEulerDiscreteScheduler",
        {"stochastic_sampling": True},
        "adds noise at each step as stochastic_sampling is True",
    ),
    *(
        (name, changes | {"use_dynamic_shifting": True}, "use_dynamic_shifting: True, which needs")
        for name, changes in (
            ("FlowMatchEulerDiscreteScheduler", {}),
            ("DPMSolverMultistepScheduler", FLOW),
            ("UniPCMultistepScheduler", FLOW),
        )
    ),
]


@pytest.mark.parametrize(("name", "changes", "reason"), REFUSED)
def test_scheduler_that_solves_no_flows_is_refused(name, changes, reason):
    scheduler = getattr(diffusers, name).from_config(scheduler_of("euler").config, **changes)
    noise = torch.randn(6, 2, 3, 3)
    with pytest.raises(UserError, match=re.escape(reason)) as refused:
        solve(two_gaussians, noise, LABELS, scheduler=scheduler, num_inference_steps=2)
    assert "\n" not in str(refused.value)
