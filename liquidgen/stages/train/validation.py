"""Validation loss: the same noise and the same times at every measurement."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from liquidgen.latents.shards import LatentDataset
from liquidgen.stages.train.learner import Learner, generator_for

TIME_BINS = 4
MOST_SAMPLES = 4096  # of the holdout; more would only cost time


class Validation:
    """Loss on held-out latents with fixed noise and stratified t, also in bins of t."""

    def __init__(self, holdout: LatentDataset) -> None:
        count = min(len(holdout), MOST_SAMPLES)
        generator = generator_for(0, 0)  # same noise and times for every experiment
        latents, self.labels = holdout.batch(range(count))
        self.latents = holdout.contract.normalize(latents)
        self.noise = torch.randn(latents.shape, generator=generator)
        strata = (torch.arange(count) + 0.5) / count
        self.t = strata[torch.randperm(count, generator=generator)]

    def measure(self, learner: Learner, check: Callable[[], None]) -> dict[str, float]:
        """Measure the mean loss of the averaged weights, over all t and in each bin of t.

        Args:
            learner: Its averaged weights are measured.
            check: Called before each batch, equally often in each process; may raise to stop.

        Returns:
            Losses by name, as they are logged.
        """
        tensors = (self.latents, self.labels, self.noise, self.t)
        own = [learner.world.shard(tensor) for tensor in tensors]
        batches = math.ceil(len(self.t) / learner.settings.batch_size)
        own_losses = []
        with learner.averaged():
            for part in zip(*(tensor.tensor_split(batches) for tensor in own), strict=True):
                check()
                own_losses.append(learner.losses(*part))
        losses = torch.zeros(len(self.t))
        learner.world.shard(losses).copy_(torch.cat(own_losses))
        losses = learner.world.sum(losses)
        return {"validation_loss": losses.mean().item(), **self._in_bins(losses)}

    def _in_bins(self, losses: Tensor) -> dict[str, float]:
        bins = (self.t * TIME_BINS).long().clamp(max=TIME_BINS - 1)
        return {
            f"validation_loss_t{i / TIME_BINS:.2f}-{(i + 1) / TIME_BINS:.2f}": value.mean().item()
            for i in range(TIME_BINS)
            if len(value := losses[bins == i])
        }
