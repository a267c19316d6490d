"""Trainings of a small network on small latents, in this process."""

import signal
from pathlib import Path

import pytest
import torch

from liquidgen.config.params import load_params
from liquidgen.config.settings import ModelSettings
from liquidgen.stages.train.run_state import prepare_training
from liquidgen.stages.train.trainer import Trainer

PARAMS = load_params(Path("params.yaml"))
CPU, SIDE, CLASSES = torch.device("cpu"), 32, 10
MODEL = ModelSettings(width=32, depth=2, cond_dim=32, patch_size=1)
SMALL = {
    "num_epochs": 2,
    "batch_size": 16,
    "warmup_steps": 3,
    "precision": "fp32",
    "log_every": 1,
    "validate_every": 1,
    "preview_every": 0,
}


def prepare(folder, latents, *, model=MODEL, block=None, **changes):
    return prepare_training(
        latents,
        folder,
        model=model,
        block=PARAMS.selectors.block,
        block_settings=PARAMS.block | (block or {}),
        settings=PARAMS.train.model_copy(update=SMALL | changes),
    )


class Points:
    """Remembers what is logged, and asks the process to stop at a step."""

    def __init__(self, stop_at=None):
        self.stop_at, self.metrics, self.images = stop_at, [], []

    def log_metrics(self, metrics, step):
        self.metrics.append((step, metrics))
        if step == self.stop_at:
            signal.raise_signal(signal.SIGINT)

    def log_image(self, image, key, step):
        self.images.append((step, key, image))

    def steps_of(self, name):
        return [step for step, metrics in self.metrics if name in metrics]


def train(training, log=None):
    """A finished Trainer."""
    with training.locked():
        trainer = Trainer(training, CPU)
        trainer.run(log or Points())
    return trainer


def stop(training, at):
    """Train until a signal at a step; what it says of it."""
    with pytest.raises(KeyboardInterrupt) as stopped, training.locked():
        Trainer(training, CPU).run(Points(stop_at=at))
    return str(stopped.value)


def assert_same_end(trainer, other):
    """Bitwise equality of weights, averages and optimizer, and of the curve."""
    (one, facts), (two, other_facts) = trainer.learner.state(), other.learner.state()
    assert one.keys() == two.keys()
    assert [name for name in one if not torch.equal(one[name], two[name])] == []
    assert facts == other_facts
    assert trainer.progress.curve == other.progress.curve
