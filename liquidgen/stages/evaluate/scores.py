"""From pictures as seen to the scores of an evaluation."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor

from liquidgen.config.settings import EvaluateSettings
from liquidgen.stages.evaluate import metrics
from liquidgen.stages.evaluate.class_probe import Probe
from liquidgen.stages.evaluate.labeled_features import LabeledFeatures


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
class EvaluationFeatures:
    """All pictures as seen: the holdout as it is, the others through the autoencoder.

    `reconstructed` are the holdout's.
    """

    samples: LabeledFeatures
    holdout: LabeledFeatures
    reconstructed: LabeledFeatures
    train: LabeledFeatures


def compared(all_features: EvaluationFeatures) -> int:
    """How many samples, and as many training pictures, the distances are of."""
    return min(len(all_features.samples.labels), len(all_features.train.labels))


def distances(all_features: EvaluationFeatures, settings: EvaluateSettings) -> dict[str, float]:
    """Distances to the holdout: of samples, of itself, and of real pictures in their place.

    Samples and real pictures are as many, because the Frechet distance depends on the number.
    """
    count = compared(all_features)
    sets = {
        "": all_features.samples.features[:count],
        "reconstruction_": all_features.reconstructed.features,
        "train_": all_features.train.features[:count],
    }
    scores = {}
    for name, features in sets.items():
        kid = metrics.kernel_distance(
            features,
            all_features.holdout.features,
            subset_size=settings.kid_subset_size,
            subsets=settings.kid_subsets,
            seed=settings.seed,
        )
        scores[f"{name}fd"] = metrics.frechet_distance(features, all_features.holdout.features)
        scores |= {f"{name}kid": kid.mean, f"{name}kid_std": kid.std}
    covered = metrics.coverage(
        all_features.samples.features, all_features.holdout.features, nearest_k=settings.nearest_k
    )
    return scores | covered._asdict()


class Neighbors(NamedTuple):
    """Nearest training pictures of the samples, indices into `train` and distances (N, k).

    The distances are ratios to the median of the holdout's distances to its nearest.
    """

    indices: np.ndarray
    ratios: np.ndarray
    memorized_share: float


def neighbors(all_features: EvaluationFeatures, count: int) -> Neighbors:
    """The `count` nearest training pictures of each sample, and the share of copies."""
    own = metrics.nearest(all_features.samples.features, all_features.train.features, count=count)
    usual = metrics.nearest(
        all_features.reconstructed.features, all_features.train.features, count=1
    )
    return Neighbors(
        indices=own.indices.numpy(),
        ratios=(own.distances / usual.distances.median()).numpy(),
        memorized_share=metrics.memorized_share(own.distances[:, 0], usual.distances[:, 0]),
    )


class ProbeResult(NamedTuple):
    """Which pictures (N,) the probe sees as their own class, and their classes (N,)."""

    seen: Tensor
    labels: Tensor


def accepted(
    all_features: EvaluationFeatures,
    known: LabeledFeatures,
    scrambled_train: LabeledFeatures,
    scrambled_holdout: LabeledFeatures,
    num_classes: int,
) -> dict[str, ProbeResult]:
    """What a probe, fitted to known training pictures, says of samples and of the holdout."""
    probe = Probe(*known, scrambled_train.features, num_classes)
    looked_at = {
        "samples": all_features.samples,
        "holdout": all_features.reconstructed,
        "scrambled": scrambled_holdout,
    }
    return {
        kind: ProbeResult(probe.predict(features) == labels, labels)
        for kind, (features, labels) in looked_at.items()
    }


def class_scores(accepted: dict[str, ProbeResult]) -> dict[str, float]:
    """Shares of pictures that are seen as their own class."""
    share = {kind: pictures.seen.float().mean().item() for kind, pictures in accepted.items()}
    return {
        "class_accuracy": share["samples"],
        "probe_accuracy": share["holdout"],
        "probe_scrambled_accepted": share["scrambled"],
    }
