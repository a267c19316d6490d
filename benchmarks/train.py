"""Throughput of training against a bare loop: images/s of both, in turns, in one run.

    python -m benchmarks.train --model nano --images 8192 --steps 240 --rounds 3

The bare loop has a pool of ready batches (noisy latents, t, labels, velocity) on the device, and
does forward, loss, backward, clip, optimizer and EMA, nothing else. Training is the stage's loop:
batches from mapped shards, noise, loss scaling and checks, the progress bar, metrics that go to
MLflow, and checkpoints as often as params.yaml says. Validation, previews and the start are in
neither. The rate of the reader of latents alone is printed, too.
"""

import argparse
import os
import tempfile
import time
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from statistics import median

import torch
from diffusers.training_utils import EMAModel
from torch.nn.utils import clip_grad_norm_

from benchmarks.preparation import make_latents, prepare, wait_for
from liquidgen.compute.device import resolve_device
from liquidgen.compute.precision import autocast, network_dtype
from liquidgen.config.params import load_params
from liquidgen.flow.matching import interpolate
from liquidgen.latents.shards import LatentDataset, batches
from liquidgen.models.liquidnet import LiquidNet
from liquidgen.stages.train.optimizers import create_optimizer
from liquidgen.stages.train.run_state import Training
from liquidgen.stages.train.trainer import Trainer
from liquidgen.tracking import open_run

POOL = 16  # ready batches
WARM_UP = 3  # steps of the bare loop that are not timed


class Clock:
    """Callback that passes metrics on, and records when they came."""

    def __init__(self, log: object) -> None:
        self._log = log
        self.times = {}

    def log_metrics(self, metrics: dict[str, float], step: int) -> None:
        """Record the time of a point of the loss curve."""
        if "loss" in metrics:
            self.times[step] = time.perf_counter()
        self._log.log_metrics(metrics, step)

    def rate(self, batch_size: int) -> float:
        """Return images/s from the first point to the last."""
        first = min(self.times)
        last = max(self.times)
        return (last - first) * batch_size / (self.times[last] - self.times[first])


class Bare:
    """Network, optimizer and EMA as in the stage, fed with ready tensors."""

    def __init__(self, training: Training, device: torch.device) -> None:
        s = self.settings = training.settings
        layout = torch.channels_last if s.channels_last else torch.contiguous_format
        self.model = LiquidNet(**training.network).to(device, memory_format=layout)
        self.velocity = torch.compile(self.model) if s.compile else self.model
        self.ema = EMAModel(self.model.parameters(), decay=s.ema_decay, foreach=True)
        self.optimizer = create_optimizer(self.model, s)
        self.dtype = network_dtype(s.precision, device, "train")
        self.scaler = torch.amp.GradScaler(device.type, enabled=self.dtype == torch.float16)
        self.device = device
        self.pool = [self._ready(training, i) for i in range(POOL)]

    def _ready(self, training: Training, number: int) -> tuple[torch.Tensor, ...]:
        start = number * self.settings.batch_size % (len(training.dataset) // 2)
        latents, labels = training.dataset.batch(range(start, start + self.settings.batch_size))
        latents = training.dataset.contract.normalize(latents)
        noise = torch.randn_like(latents)
        t = torch.rand(len(latents))
        batch = (interpolate(latents, noise, t), t, labels, noise - latents)
        return tuple(tensor.to(self.device) for tensor in batch)

    def step(self, x_t: torch.Tensor, t: torch.Tensor, labels: torch.Tensor, target: torch.Tensor):
        """Run a training step."""
        with autocast(self.device, self.dtype):
            loss = (self.velocity(x_t, t, labels).float() - target).square().mean()
        self.scaler.scale(loss).backward()
        self.scaler.unscale_(self.optimizer)
        clip_grad_norm_(self.model.parameters(), self.settings.grad_clip)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        self.ema.step(self.model.parameters())

    def rate(self, steps: int) -> float:
        """Return images/s over this many steps."""
        for i in range(WARM_UP):
            self.step(*self.pool[i])
        wait_for(self.device)
        started = time.perf_counter()
        for i in range(steps):
            self.step(*self.pool[i % POOL])
        wait_for(self.device)
        return steps * self.settings.batch_size / (time.perf_counter() - started)


def reader_rate(latents: Path, batch_size: int) -> float:
    """Return samples/s of the reader alone, over two epochs."""
    dataset = LatentDataset(latents, "train")
    count = 2 * (len(dataset) // batch_size)
    started = time.perf_counter()
    for indices in islice(batches(len(dataset), batch_size, seed=0, step=0), count):
        dataset.batch(indices)
    return count * batch_size / (time.perf_counter() - started)


@contextmanager
def tracked(folder: Path):
    """Open a run in an MLflow store of its own."""
    os.environ.pop("MLFLOW_TRACKING_URI", None)
    with open_run(folder, "benchmark", "train", name="benchmark", params={}) as run:
        yield run


def main() -> None:
    """Print one line per round, the median of the ratios, and the reader's rate."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default=load_params().selectors.model)
    parser.add_argument("--device", default=load_params().machine.device)
    parser.add_argument("--images", type=int, default=8192)
    parser.add_argument("--steps", type=int, default=240, help="per round, at least")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    params = load_params(changes={"model": options.model})
    device = resolve_device(options.device)
    with tempfile.TemporaryDirectory() as name, tracked(Path(name)) as run:
        folder = Path(name)
        latents = make_latents(folder, params, options.images)
        first = prepare(folder, latents, params, 1)
        epochs = -(-options.steps // first.steps_per_epoch)
        bare = Bare(first, device)
        ratios = []
        for number in range(1, options.rounds + 1):  # each round continues the training
            training = prepare(folder, latents, params, number * epochs)
            before = bare.rate(options.steps)
            clock = Clock(run)
            with training.locked():
                Trainer(training, device).run(clock)
            rate = clock.rate(params.train.batch_size)
            after = bare.rate(options.steps)
            ratios.append(2 * rate / (before + after))
            print(
                f"bare {before:.0f} and {after:.0f} images/s, training {rate:.0f}: "
                f"ratio {ratios[-1]:.3f}"
            )
        print(f"median ratio {median(ratios):.3f}")
        print(f"reader alone {reader_rate(latents, params.train.batch_size):.0f} samples/s")


if __name__ == "__main__":
    main()
