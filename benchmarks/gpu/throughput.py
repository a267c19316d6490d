"""Training steps of small, base and large at 256 px beside a DiT, and their memory."""

from dataclasses import dataclass

import torch
from torch import nn

from benchmarks.baselines import (
    CHANNELS,
    CLASSES,
    DIT_SHAPES,
    DiT,
    Latents,
    forward_flops,
    liquidnet,
    parameters,
)
from benchmarks.gpu.precision import precisions
from benchmarks.gpu.session import Session
from liquidgen.compute.precision import network_dtype
from liquidgen.config.params import load_params
from liquidgen.stages.train.learner import Learner
from liquidgen.utils.errors import reason_of

SIZES = ("small", "base", "large")
SIDE = 32  # latents of 256 px
IMAGES = 32  # per step
PEAK_SIDE = 8192  # of the matrices whose product gives the peak
PLAIN, COMPILATION = 10, 90  # seconds that must be left for a measurement


@dataclass(frozen=True)
class Variant:
    """A network as it is trained."""

    network: str
    precision: str
    channels_last: bool = True
    compile: bool = False


def variants(names: list[str]) -> list[Variant]:
    """Return the variants, the most telling first; the first precision is that of `auto`."""
    auto, *others = names
    return [
        Variant("LiquidNet", auto),
        Variant("DiT", auto),
        Variant("LiquidNet", auto, compile=True),
        Variant("LiquidNet", auto, channels_last=False),
        Variant("DiT", auto, compile=True),
        *(Variant(network, name) for name in others for network in ("LiquidNet", "DiT")),
    ]


def run(session: Session) -> None:
    """Measure one variant of all sizes, then the next one; one that fails is recorded.

    Raises:
        RuntimeError: Some failed.
    """
    failed = 0
    names = precisions(session.device)
    if session.is_rehearsal:
        names = [name for name in names if name != "fp16"]  # which a CPU does not train in
    sizes = ("nano",) if session.is_rehearsal else SIZES
    peaks = {name: peak(session, name) for name in names}
    for variant in variants(names):
        for size in sizes:
            if session.seconds_left < (COMPILATION if variant.compile else PLAIN):
                session.record("throughput", size=size, **vars(variant), skipped="no time left")
                continue
            try:
                measure(session, size, variant, peaks[variant.precision])
            except Exception as error:  # of a compiler, or no memory: the others go on
                failed += 1
                reason = reason_of(error, lines=1)
                session.record("throughput", size=size, **vars(variant), failed=reason)
    if failed:
        raise RuntimeError(f"{failed} variants")


def measure(session: Session, size: str, variant: Variant, peak: float) -> None:
    """Record rate, share of peak and memory of the training step of the product."""
    side, images = (8, 4) if session.is_rehearsal else (SIDE, IMAGES)
    session.reset_peak_memory()
    torch.compiler.reset()
    params = load_params(changes={"model": size})
    changes = {"compile": variant.compile, "channels_last": variant.channels_last}
    settings = params.train.model_copy(
        update=changes | {"precision": variant.precision, "batch_size": images}
    )
    torch.manual_seed(0)
    network = create(variant.network, size, side)
    flops = forward_flops(create(variant.network, size, side), side)
    learner = Learner(network, settings, session.device)
    if session.is_rehearsal and variant.compile:  # which takes minutes and a C++ compiler
        learner.velocity = torch.compile(learner.model, backend="eager")
    latents = torch.randn(images, CHANNELS, side, side)
    labels = torch.arange(images) % CLASSES
    seconds = session.seconds_of(lambda: learner.train_step(latents, labels))
    session.record(
        "throughput",
        size=size,
        **vars(variant),
        parameters=parameters(network),
        images_per_second=images / seconds,
        share_of_peak=3 * flops * images / seconds / peak,
        memory_gib=session.peak_memory(),
    )


def create(name: str, size: str, side: int) -> nn.Module:
    """Create a network of a size for latents of a side."""
    params = load_params(changes={"model": size})
    latents = Latents(side)
    if name == "DiT":
        return DiT(DIT_SHAPES[size], params.model.patch_size, latents)
    return liquidnet(params.model, "liquid", params.raw["blocks"], latents)


def peak(session: Session, precision: str) -> float:
    """Return floating-point operations per second of a large matrix product."""
    side = 256 if session.is_rehearsal else PEAK_SIDE
    dtype = network_dtype(precision, session.device, "train")
    a, b = torch.randn(2, side, side, device=session.device).to(dtype)
    return 2 * side**3 / session.seconds_of(lambda: torch.mm(a, b), 0.5)
