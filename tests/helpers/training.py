"""Trainings of a small network on small latents, in this process."""

import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
import torch

from liquidgen.config.params import load_params
from liquidgen.config.settings import ModelSettings
from liquidgen.latents.manifest import Split, read_manifest, write_manifest
from liquidgen.latents.shards import LatentDataset, write_shard
from liquidgen.stages.train.export import model_metadata
from liquidgen.stages.train.preview import preview_grid
from liquidgen.stages.train.run_state import prepare_training
from liquidgen.stages.train.trainer import Trainer

PARAMS = load_params(Path("params.yaml"))
CPU = torch.device("cpu")
SIDE = 32  # px of the images
CLASSES = 10
MODEL = ModelSettings(width=[32, 64], depth=[2, 2], cond_dim=32, patch_size=1)
SMALL = {
    "learning_rate_decay": "none",
    "num_epochs": 2,
    "batch_size": 16,
    "warmup_steps": 3,
    "precision": "fp32",
    "log_every": 1,
    "validate_every": 1,
    "preview_every": 0,
}
SAMPLE = PARAMS.sample.model_copy(update={"num_inference_steps": 2})  # settings of previews


def prepare(folder, latents, *, model=MODEL, block=None, params=PARAMS, pretrained=None, **changes):
    """Prepare a training with the settings of params.yaml but for SMALL and changes."""
    return prepare_training(
        latents,
        folder,
        model=model,
        block=params.selectors.block,
        block_settings=params.block | (block or {}),
        settings=params.train.model_copy(update=SMALL | changes),
        pretrained=pretrained,
    )


class MemoryLog:
    """Keeps what is logged, and interrupts the process at a step."""

    def __init__(self, stop_at=None):
        self.stop_at = stop_at
        self.metrics = []
        self.images = []

    def log_metrics(self, metrics, step):
        self.metrics.append((step, metrics))
        if step == self.stop_at:
            signal.raise_signal(signal.SIGINT)

    def log_image(self, image, key, step):
        self.images.append((step, key, image))

    def steps_of(self, name):
        """Return the steps at which a metric was logged."""
        return [step for step, metrics in self.metrics if name in metrics]


def preview(trainer, check):
    """Draw a preview as the stage does."""
    return preview_grid(trainer.learner, model_metadata(trainer, "small"), SAMPLE, check)


def train(training, log=None):
    """Train to the end; returns the trainer."""
    with training.locked():
        trainer = Trainer(training, CPU)
        trainer.run(log or MemoryLog(), preview)
    return trainer


def stop(training, at):
    """Train until an interruption at a step; returns the message."""
    with pytest.raises(KeyboardInterrupt) as stopped, training.locked():
        Trainer(training, CPU).run(MemoryLog(stop_at=at), preview)
    return str(stopped.value)


def assert_same_end(trainer, other):
    """Assert bitwise equality of weights, averages and optimizer, and of the curve."""
    tensors, state = trainer.learner.state()
    other_tensors, other_state = other.learner.state()
    assert tensors.keys() == other_tensors.keys()
    assert [name for name in tensors if not torch.equal(tensors[name], other_tensors[name])] == []
    assert state == other_state
    assert trainer.progress.curve == other.progress.curve


def with_values(folder, source, change):
    """Copy a folder of latents to `folder`, with training latents that `change` alters in place."""
    shutil.copytree(source, folder)
    manifest = read_manifest(source)
    dataset = LatentDataset(source, "train")
    values = dataset.batch(range(len(dataset)))[0].numpy().astype(np.float16)
    change(values)
    old = manifest.splits["train"]
    [name] = [shard.name for shard in old.shards]
    shard = write_shard(folder / name, values, dataset.labels)
    train_split = Split(**old.model_dump(exclude={"shards"}), shards=(shard,))
    splits = manifest.splits | {"train": train_split}
    write_manifest(folder, manifest.model_copy(update={"splits": splits}))
    return folder


def with_other_autoencoder(folder, source):
    """Copy a folder of latents to `folder`, with another digest of the autoencoder's weights."""
    shutil.copytree(source, folder)
    manifest = read_manifest(source)
    contract = manifest.contract.model_copy(update={"autoencoder_digest": "f" * 64})
    write_manifest(folder, manifest.model_copy(update={"contract": contract}))
    return folder
