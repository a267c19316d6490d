"""Images per second of each size with guidance, without decoding."""

from functools import partial

import torch

from benchmarks.baselines import CHANNELS, CLASSES
from benchmarks.gpu.precision import precisions
from benchmarks.gpu.session import Session
from benchmarks.gpu.throughput import SIDE, SIZES, create
from liquidgen.compute.precision import network_dtype
from liquidgen.config.params import load_params
from liquidgen.flow.matching import guided
from liquidgen.flow.solvers import scheduler_of, solve
from liquidgen.generator.draw import velocity_in

IMAGES = 64
STEPS = 10  # timed; the rate is that of as many as params.yaml has


@torch.inference_mode()
def run(session: Session) -> None:
    """Draw with each size, in the precision of `auto` and in fp32."""
    steps, images, side = (1, 2, 8) if session.is_rehearsal else (STEPS, IMAGES, SIDE)
    settings = load_params().sample
    noise = torch.randn(images, CHANNELS, side, side, device=session.device)
    labels = torch.arange(images, device=session.device) % CLASSES
    for size in ("nano",) if session.is_rehearsal else SIZES:
        model = create("LiquidNet", size, side).eval()
        model = model.to(session.device, memory_format=torch.channels_last)
        for precision in dict.fromkeys((precisions(session.device)[0], "fp32")):
            if session.seconds_left < 0:
                session.record("sampling", size=size, precision=precision, skipped="no time left")
                continue
            dtype = network_dtype(precision, session.device, "sample")
            draw = partial(
                solve,
                guided(velocity_in(dtype, model), model.null_label, settings.guidance_scale),
                noise,
                labels,
                scheduler=scheduler_of(settings.solver),
                num_inference_steps=steps,
            )
            seconds = session.seconds_of(draw) * settings.num_inference_steps / steps
            session.record(
                "sampling",
                size=size,
                precision=precision,
                num_inference_steps=settings.num_inference_steps,
                images_per_second=images / seconds,
            )
