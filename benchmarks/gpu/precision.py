"""What precisions do to a training: its curve beside the CPU's, and an overflow of fp16."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from benchmarks.baselines import CHANNELS, CLASSES, Latents, liquidnet
from benchmarks.gpu.session import Session
from liquidgen.compute.precision import has_native_bf16
from liquidgen.config.params import load_params
from liquidgen.stages.train.learner import Learner

STEPS = 100
SIDE = 8  # latents of 64 px
IMAGES = 32  # per step
MAX_SKIPPED_STEPS = 60  # steps; each halves the loss scale
OVERFLOWING_SCALE = 2.0**40  # a loss scale that fp16, which ends at 2**16, cannot hold


@dataclass(frozen=True)
class Trial:
    """A training of nano on numbers that have something to learn."""

    device: torch.device
    precision: str

    def learner(self) -> Learner:
        """Create the learner, with the same weights on every device."""
        params = load_params(changes={"model": "nano"})
        torch.manual_seed(0)
        network = liquidnet(params.model, "liquid", params.raw["blocks"], Latents(SIDE))
        # a CPU has no loss scaling of its own: a rehearsal turns it on
        on_cpu = self.device.type == "cpu" and self.precision == "fp16"
        precision = "fp32" if on_cpu else self.precision
        settings = params.train.model_copy(update={"precision": precision})
        learner = Learner(network, settings, self.device)
        if on_cpu:
            learner.dtype = torch.float16
            learner.scaler = torch.amp.GradScaler("cpu")
        return learner

    def losses(self, steps: int) -> list[float]:
        """Train; returns the loss of each step."""
        learner = self.learner()
        return [learner.train_step(*batch(step))[0] for step in range(steps)]


def batch(step: int) -> tuple[Tensor, Tensor]:
    """Return latents that depend on their label, smooth in space."""
    random = torch.Generator().manual_seed(step)
    labels = torch.randint(0, CLASSES, (IMAGES,), generator=random)
    patterns = torch.randn(CLASSES, CHANNELS, 2, 2, generator=torch.Generator().manual_seed(2**31))
    smooth = torch.nn.functional.interpolate(patterns[labels], size=SIDE, mode="bilinear")
    return smooth + 0.3 * torch.randn(smooth.shape, generator=random), labels


def precisions(device: torch.device) -> list[str]:
    """Return the precisions that a device has, that of `auto` first; a rehearsal has all."""
    if device.type == "cuda" and not has_native_bf16(device):
        return ["fp16", "fp32"]
    return ["bf16", "fp16", "fp32"]


def run_curves(session: Session) -> None:
    """Compare the losses with those of the CPU in fp32, step by step."""
    steps = 3 if session.is_rehearsal else STEPS
    reference = Trial(torch.device("cpu"), "fp32").losses(steps)
    for name in precisions(session.device):
        losses = Trial(session.device, name).losses(steps)
        pairs = zip(losses, reference, strict=True)
        differences = [abs(loss - other) / other for loss, other in pairs]
        session.record(
            "precision",
            device=session.device.type,
            precision=name,
            steps=steps,
            last_loss=losses[-1],
            last_loss_of_cpu=reference[-1],
            largest_difference=max(differences),
            mean_difference=sum(differences) / steps,
        )


def run_overflow(session: Session) -> None:
    """Train in fp16 from a loss scale that overflows.

    Raises:
        RuntimeError: An overflow changed weights, or the training did not go on after it.
    """
    learner = Trial(session.device, "fp16").learner()
    learner.scaler = torch.amp.GradScaler(session.device.type, init_scale=OVERFLOWING_SCALE)
    before = [weight.detach().clone() for weight in learner.model.parameters()]
    skipped = 0
    while not math.isfinite(learner.train_step(*batch(learner.step))[1]):
        skipped += 1
        kept = zip(before, learner.model.parameters(), strict=True)
        if not all(torch.equal(*pair) for pair in kept):
            raise RuntimeError("a step that overflowed changed the weights")
        if skipped > MAX_SKIPPED_STEPS:
            raise RuntimeError(f"{skipped} steps in a row overflowed")
    losses = [learner.train_step(*batch(learner.step))[0] for _ in range(5)]
    if not all(map(math.isfinite, losses)):
        raise RuntimeError(f"losses after the overflow: {losses}")
    scale = learner.scaler.get_scale()
    session.record("overflow", skipped_steps=skipped, scale=scale, loss=losses[-1])
