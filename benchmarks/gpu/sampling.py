"""Images per second of each size with guidance, without decoding."""

from dataclasses import dataclass

import torch
from torch import Tensor

from benchmarks.baselines import CHANNELS, CLASSES
from benchmarks.gpu.precision import precisions
from benchmarks.gpu.session import Session
from benchmarks.gpu.throughput import SIDE, SIZES, create
from liquidgen.compute.precision import autocast, network_dtype
from liquidgen.config.params import load_params
from liquidgen.config.settings import SampleSettings
from liquidgen.flow.matching import guided
from liquidgen.flow.solvers import scheduler_of, solve
from liquidgen.models.liquidnet import LiquidNet

IMAGES = 64
STEPS = 10  # timed; the rate is that of as many as params.yaml has


@dataclass(frozen=True)
class Drawing:
    """Solves the flow of noise, as the stage sample does."""

    model: LiquidNet
    dtype: torch.dtype
    settings: SampleSettings
    images: int

    def velocity(self, x_t: Tensor, t: Tensor, labels: Tensor) -> Tensor:
        """Return the velocity."""
        with autocast(self.model.device, self.dtype):
            return self.model(x_t, t, labels).float()

    def draw(self) -> None:
        """Draw a batch."""
        device = self.model.device
        side = self.model.config["sample_size"]
        solve(
            guided(self.velocity, self.model.null_label, self.settings.guidance_scale),
            torch.randn(self.images, CHANNELS, side, side, device=device),
            torch.arange(self.images, device=device) % CLASSES,
            scheduler=scheduler_of(self.settings.solver),
            num_inference_steps=self.settings.num_inference_steps,
        )


@torch.inference_mode()
def run(session: Session) -> None:
    """Draw with each size, in the precision of `auto` and in fp32."""
    steps, images, side = (1, 2, 8) if session.is_rehearsal else (STEPS, IMAGES, SIDE)
    settings = load_params().sample
    fewer = settings.model_copy(update={"num_inference_steps": steps})
    for size in ("nano",) if session.is_rehearsal else SIZES:
        model = create("LiquidNet", size, side).eval()
        model = model.to(session.device, memory_format=torch.channels_last)
        for precision in dict.fromkeys((precisions(session.device)[0], "fp32")):
            if session.seconds_left < 0:
                session.record("sampling", size=size, precision=precision, skipped="no time left")
                continue
            dtype = network_dtype(precision, session.device, "sample")
            drawing = Drawing(model, dtype, fewer, images)
            seconds = session.seconds_of(drawing.draw) * settings.num_inference_steps / steps
            session.record(
                "sampling",
                size=size,
                precision=precision,
                num_inference_steps=settings.num_inference_steps,
                images_per_second=images / seconds,
            )
