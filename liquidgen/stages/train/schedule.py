"""The learning rate over a training: warm-up, constant, and perhaps a decay at the end.

Only the decay depends on the length of the training, so that a longer one continues from where a
shorter one began it (Hu et al. 2024, arXiv 2404.06395, section 4: warmup-stable-decay).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

# factor of the rate by the share of the decay that is done, in (0, 1)
DECAYS: dict[str, Callable[[float], float]] = {
    "linear": lambda done: 1.0 - done,
    "cosine": lambda done: 0.5 + 0.5 * math.cos(math.pi * done),
}


@dataclass(frozen=True)
class Decay:
    """A fall of the learning rate to 0.

    Attributes:
        shape: A name of `DECAYS`.
        start: Steps before it.
        end: Steps of the whole training.
    """

    shape: str
    start: int
    end: int

    def factor(self, step: int) -> float:
        """Return the factor of the learning rate at a step from `start` to `end - 1`."""
        # the first step is slower already, and the last one still moves
        return DECAYS[self.shape]((step - self.start + 1) / (self.end - self.start + 1))


@dataclass(frozen=True)
class Schedule:
    """Factor of the learning rate at each step.

    Attributes:
        warmup_steps: Steps over which the factor grows linearly from 0 to 1.
        decay: What follows the constant rate; None: nothing.
    """

    warmup_steps: int
    decay: Decay | None = None

    def factor(self, step: int) -> float:
        """Return the factor of a step, counted from 0."""
        warmup = min(1.0, (step + 1) / max(1, self.warmup_steps))
        if self.decay and step >= self.decay.start:
            return warmup * self.decay.factor(step)
        return warmup
