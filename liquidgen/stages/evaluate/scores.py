"""From pictures as seen to the scores of an evaluation."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor

from liquidgen.config.settings import EvaluateSettings
from liquidgen.stages.evaluate import metrics
from liquidgen.stages.evaluate.class_probe import Probe
from liquidgen.stages.evaluate.seen import Seen


@dataclass(frozen=True)
class Scores:
    """Figures by name, and the protocol that they must be read with."""

    values: dict[str, float]
    protocol: dict[str, Any]

    def figures(self) -> dict[str, float]:
        """What tracking records: names and numbers."""
        return dict(self.values)

    def summary(self) -> str:
        """The main figures beside their floors, as one line."""
        told = [
            f"{name} {self.values[name]:.4g} (real images {self.values[f'train_{name}']:.4g})"
            for name in ("fd", "kid")
        ]
        if "class_accuracy" in self.values:
            told.append(f"class accuracy {self.values['class_accuracy']:.3f}")
        return ", ".join(told)


@dataclass(frozen=True)
class Judged:
    """All pictures as seen: the holdout as it is, the others through the autoencoder.

    `reconstructed` are the holdout's.
    """

    samples: Seen
    holdout: Seen
    reconstructed: Seen
    train: Seen


def compared(judged: Judged) -> int:
    """How many samples, and as many training pictures, the distances are of."""
    return min(len(judged.samples.labels), len(judged.train.labels))


def distances(judged: Judged, settings: EvaluateSettings) -> dict[str, float]:
    """Distances to the holdout: of samples, of itself, and of real pictures in their place.

    Samples and real pictures are as many, because the Frechet distance depends on the number.
    """
    count = compared(judged)
    sets = {
        "": judged.samples.features[:count],
        "reconstruction_": judged.reconstructed.features,
        "train_": judged.train.features[:count],
    }
    scores = {}
    for name, features in sets.items():
        kid = metrics.kernel_distance(
            features,
            judged.holdout.features,
            subset_size=settings.kid_subset_size,
            subsets=settings.kid_subsets,
            seed=settings.seed,
        )
        scores[f"{name}fd"] = metrics.frechet_distance(features, judged.holdout.features)
        scores |= {f"{name}kid": kid.mean, f"{name}kid_std": kid.std}
    covered = metrics.coverage(
        judged.samples.features, judged.holdout.features, neighbours=settings.neighbours
    )
    return scores | covered._asdict()


class Neighbours(NamedTuple):
    """Nearest training pictures of the samples, indices into `train` and distances (N, k).

    The distances are ratios to the median of the holdout's distances to its nearest.
    """

    indices: np.ndarray
    ratios: np.ndarray
    memorised_share: float


def neighbours(judged: Judged, count: int) -> Neighbours:
    """The `count` nearest training pictures of each sample, and the share of copies."""
    own = metrics.nearest(judged.samples.features, judged.train.features, count=count)
    usual = metrics.nearest(judged.reconstructed.features, judged.train.features, count=1)
    return Neighbours(
        indices=own.indices.numpy(),
        ratios=(own.distances / usual.distances.median()).numpy(),
        memorised_share=metrics.memorised_share(own.distances[:, 0], usual.distances[:, 0]),
    )


class Accepted(NamedTuple):
    """Which pictures (N,) the probe sees as their own class, and their classes (N,)."""

    seen: Tensor
    labels: Tensor


def accepted(
    judged: Judged, known: Seen, scrambled_train: Seen, scrambled_holdout: Seen, num_classes: int
) -> dict[str, Accepted]:
    """What a probe, fitted to known training pictures, says of samples and of the holdout."""
    probe = Probe(*known, scrambled_train.features, num_classes)
    looked_at = {
        "samples": judged.samples,
        "holdout": judged.reconstructed,
        "scrambled": scrambled_holdout,
    }
    return {
        kind: Accepted(probe.predict(features) == labels, labels)
        for kind, (features, labels) in looked_at.items()
    }


def class_scores(accepted: dict[str, Accepted]) -> dict[str, float]:
    """Shares of pictures that are seen as their own class."""
    share = {kind: pictures.seen.float().mean().item() for kind, pictures in accepted.items()}
    return {
        "class_accuracy": share["samples"],
        "probe_accuracy": share["holdout"],
        "probe_scrambled_accepted": share["scrambled"],
    }
