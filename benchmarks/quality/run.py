"""One training of a comparison: a contestant, a learning rate, a seed."""

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
import torch

from benchmarks.quality.field import Field
from liquidgen.latents.shards import epoch_order
from liquidgen.stages.train.checkpoint import (
    checkpoints,
    load_checkpoint,
    prune_checkpoints,
    save_checkpoint,
)
from liquidgen.stages.train.learner import Learner
from liquidgen.utils.files import atomic

Point = dict[str, Any]
LAST_STEP = 999_999_999


@dataclass(frozen=True)
class Run:
    """State on disk of one training, and its next turn.

    The training is the product's own: `Learner`, the order of samples, noise, times and dropped
    labels depend on seed and step alone, and so are the same for all contestants.
    """

    field: Field
    contestant: str
    learning_rate: float
    seed: int

    @cached_property
    def folder(self) -> Path:
        """Folder of the checkpoints."""
        name = f"{self.contestant.replace(' ', '-')}-{self.learning_rate:g}-{self.seed}"
        return self.field.folder / "runs" / name

    @property
    def points_file(self) -> Path:
        """JSON lines, one per turn."""
        return self.folder / "points.jsonl"

    def points(self) -> list[Point]:
        """Read the curve so far."""
        if not self.points_file.exists():
            return []
        return [json.loads(line) for line in self.points_file.read_text().splitlines()]

    def losses(self) -> dict[int, float]:
        """Return the validation losses by step."""
        return {point["step"]: point["validation_loss"] for point in self.points()}

    def load(self) -> tuple[Learner, list[Point]]:
        """Create the learner, with the state of the newest checkpoint."""
        settings = self.field.train_settings(self.learning_rate, self.seed)
        torch.manual_seed(self.seed)
        learner = Learner(self.field.network(self.contestant), settings, torch.device("cpu"))
        if not (found := load_checkpoint(self.folder, LAST_STEP)):
            return learner, []
        tensors, state = found
        learner.load_state(tensors, state["learner"])
        return learner, state["points"]

    def turn(self, steps: int) -> Point:
        """Train for some steps, measure, save."""
        self.folder.mkdir(parents=True, exist_ok=True)
        learner, points = self.load()
        before = points[-1]["seconds"] if points else 0.0
        losses = []
        started = time.process_time()
        for _, indices in zip(range(steps), self.batches(learner.step), strict=False):
            latents, labels = self.field.dataset.batch(indices)
            normalized = self.field.dataset.contract.normalize(latents)
            losses.append(learner.train_step(normalized, labels)[0])
        spent = time.process_time() - started
        points.append(
            {
                "step": learner.step,
                "images": learner.step * learner.settings.batch_size,
                "seconds": before + spent,
                "seconds_per_step": spent / steps,
                "loss": mean(losses),
                **self.field.validation.measure(learner, lambda: None),
            }
        )
        self._save(learner, points)
        return points[-1]

    def checkpoint(self) -> Path:
        """Return the newest checkpoint."""
        return checkpoints(self.folder)[-1][1]

    def batches(self, step: int) -> Iterator[np.ndarray]:
        size = self.field.params.train.batch_size
        per_epoch = len(self.field.dataset) // size
        epoch, batch = divmod(step, per_epoch)
        while True:
            order = epoch_order(len(self.field.dataset), self.seed, epoch)
            for i in range(batch, per_epoch):
                yield order[i * size : (i + 1) * size]
            epoch, batch = epoch + 1, 0

    def _save(self, learner: Learner, points: list[Point]) -> None:
        # the curve is part of the checkpoint: a kill between the two files loses neither
        tensors, state = learner.state()
        save_checkpoint(self.folder, learner.step, tensors, {"learner": state, "points": points})
        with atomic(self.points_file) as file:
            file.write("".join(f"{json.dumps(point)}\n" for point in points).encode())
        prune_checkpoints(self.folder, learner.step, keep=1)
