"""One training of a comparison: a contestant, a learning rate, a seed."""

import json
import time
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from statistics import mean
from typing import Any

import torch

from benchmarks.quality.field import Field
from liquidgen.config.settings import TrainSettings
from liquidgen.latents.shards import batches
from liquidgen.stages.train.checkpoint import (
    checkpoints,
    load_checkpoint,
    prune_checkpoints,
    save_checkpoint,
)
from liquidgen.stages.train.learner import Learner
from liquidgen.utils.files import atomic

Point = dict[str, Any]
LAST_STEP = 999_999_999  # that the name of a checkpoint can have


@dataclass(frozen=True)
class Run:
    """State on disk of one training, and its next turn.

    The training is the product's own: the order of samples, noise, times and dropped labels depend
    on seed and step alone, and so are the same for all contestants.
    """

    field: Field
    contestant: str
    learning_rate: float
    seed: int

    @property
    def folder(self) -> Path:
        """Folder of the checkpoints and of the curve."""
        name = f"{self.contestant.replace(' ', '-')}-{self.learning_rate:g}-{self.seed}"
        return self.field.folder / "runs" / name

    @property
    def settings(self) -> TrainSettings:
        """Settings of the training."""
        return self.field.train_settings(self.contestant, self.learning_rate, self.seed)

    @property
    def points_file(self) -> Path:
        """The curve as JSON lines, one per turn."""
        return self.folder / "points.jsonl"

    def read_points(self) -> list[Point]:
        """Read the curve so far."""
        if not self.points_file.exists():
            return []
        return [json.loads(line) for line in self.points_file.read_text().splitlines()]

    def load(self) -> tuple[Learner, list[Point]]:
        """Create the learner, with the state of the newest checkpoint, and return the curve."""
        torch.manual_seed(self.seed)
        network = self.field.network(self.contestant)
        learner = Learner(network, self.settings, torch.device("cpu"))
        if not (found := load_checkpoint(self.folder, LAST_STEP)):
            return learner, []
        tensors, state = found
        learner.load_state(tensors, state["learner"])
        return learner, state["points"]

    def turn(self) -> Point:
        """Train for the steps of a turn, measure, save; returns the new point of the curve."""
        self.folder.mkdir(parents=True, exist_ok=True)
        learner, points = self.load()
        dataset = self.field.dataset
        size = learner.settings.batch_size
        losses = []
        started = time.process_time()
        for indices in islice(
            batches(len(dataset), size, self.seed, learner.step), self.field.turn
        ):
            latents, labels = dataset.batch(indices)
            losses.append(learner.train_step(dataset.contract.normalize(latents), labels)[0])
        spent = time.process_time() - started
        points.append(
            {
                "step": learner.step,
                "images": learner.step * size,
                "seconds": spent + (points[-1]["seconds"] if points else 0.0),
                "seconds_per_step": spent / len(losses),
                "loss": mean(losses),
                **self.field.validation.measure(learner, lambda: None),
            }
        )
        self._save(learner, points)
        return points[-1]

    def checkpoint(self) -> Path:
        """Return the newest checkpoint."""
        return checkpoints(self.folder)[-1][1]

    def _save(self, learner: Learner, points: list[Point]) -> None:
        # the curve is part of the checkpoint: a kill between the two files loses neither
        tensors, state = learner.state()
        state = {"learner": state, "points": points}
        save_checkpoint(self.folder, learner.step, tensors, state)
        with atomic(self.points_file) as file:
            file.write("".join(f"{json.dumps(point)}\n" for point in points).encode())
        prune_checkpoints(self.folder, learner.step, keep=1)
