"""Computes the scores of an evaluation from features.

A new score is a function in this file, added to `SCORES`: its values are written, logged and
compared by DVC under the names that it returns.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor

from liquidgen.config.settings import EvaluateSettings
from liquidgen.stages.evaluate import metrics
from liquidgen.stages.evaluate.class_probe import ClassProbe
from liquidgen.stages.evaluate.feature_extraction import LabeledFeatures

NEIGHBORS_PER_SAMPLE = 5  # training images beside each sample in neighbors.png


@dataclass(frozen=True)
class Scores:
    """The result of an evaluation.

    Attributes:
        values: Scores by name.
        protocol: Conditions under which scores are comparable.
    """

    values: dict[str, float]
    protocol: dict[str, Any]

    def summary(self) -> str:
        """Return the main scores beside those of real images as one line."""
        parts = [
            f"{name} {self.values[name]:.4g} (real images {self.values[f'train_{name}']:.4g})"
            for name in ("fd", "kid")
        ]
        if "class_accuracy" in self.values:
            accuracy, real = (self.values[f"{kind}_accuracy"] for kind in ("class", "probe"))
            parts.append(f"class accuracy {accuracy:.3f} (real images {real:.3f})")
        return ", ".join(parts)


class TrainingNeighbors(NamedTuple):
    """The nearest training images of each sample, nearest first.

    Attributes:
        indices: Indices (N, k) into the features `train`.
        ratios: Distances (N, k) over the median distance of holdout images to their nearest.
        memorized_share: Share of samples that are nearer than the median holdout image.
    """

    indices: np.ndarray
    ratios: np.ndarray
    memorized_share: float


@dataclass(frozen=True)
class EvaluationFeatures:
    """Features of the four sets of images that are compared.

    Attributes:
        samples: Samples of the model.
        holdout: Holdout images as they are.
        reconstructed: The same images, encoded and decoded.
        train: Training images, encoded and decoded, in random order.
    """

    samples: LabeledFeatures
    holdout: LabeledFeatures
    reconstructed: LabeledFeatures
    train: LabeledFeatures

    @property
    def num_compared(self) -> int:
        """Number of samples, and of training images, that are compared with the holdout."""
        return min(len(self.samples.labels), len(self.train.labels))

    @cached_property
    def neighbors(self) -> TrainingNeighbors:
        """Nearest training images of each sample; used by a score and by a figure."""
        train = self.train.features
        sample = metrics.nearest_neighbors(self.samples.features, train, count=NEIGHBORS_PER_SAMPLE)
        holdout = metrics.nearest_neighbors(self.reconstructed.features, train, count=1)
        return TrainingNeighbors(
            indices=sample.indices.numpy(),
            ratios=(sample.distances / holdout.distances.median()).numpy(),
            memorized_share=metrics.memorized_share(
                sample.distances[:, 0], holdout.distances[:, 0]
            ),
        )


def distances(features: EvaluationFeatures, settings: EvaluateSettings) -> dict[str, float]:
    """Compute the distances of samples, reconstructions and training images to the holdout.

    There are as many samples as training images: the Frechet distance depends on the number.
    """
    reference = features.holdout.features
    sets = {
        "": features.samples.features[: features.num_compared],
        "reconstruction_": features.reconstructed.features,
        "train_": features.train.features[: features.num_compared],
    }
    values = {}
    for prefix, compared in sets.items():
        kid = metrics.kernel_distance(
            compared,
            reference,
            subset_size=settings.kid_subset_size,
            subsets=settings.kid_subsets,
            seed=settings.seed,
        )
        values[f"{prefix}fd"] = metrics.frechet_distance(compared, reference)
        values[f"{prefix}kid"] = kid.mean
        values[f"{prefix}kid_std"] = kid.std
    return values


def manifold_overlap(features: EvaluationFeatures, settings: EvaluateSettings) -> dict[str, float]:
    """Compute precision, recall, density and coverage of the samples."""
    return metrics.prdc(
        features.samples.features, features.holdout.features, nearest_k=settings.nearest_k
    )._asdict()


def memorization(features: EvaluationFeatures, settings: EvaluateSettings) -> dict[str, float]:
    """Compute the share of samples that are nearer to a training image than usual."""
    return {"memorized_share": features.neighbors.memorized_share}


Score = Callable[[EvaluationFeatures, EvaluateSettings], dict[str, float]]
SCORES: tuple[Score, ...] = (distances, manifold_overlap, memorization)


def compute_scores(features: EvaluationFeatures, settings: EvaluateSettings) -> dict[str, float]:
    """Compute the values of all `SCORES` by name."""
    values: dict[str, float] = {}
    for score in SCORES:
        values |= score(features, settings)
    return values


class ProbeResult(NamedTuple):
    """Predictions of the class probe on a set of images.

    Attributes:
        correct: Whether the probe predicts the label of each image, (N,).
        labels: Labels (N,).
    """

    correct: Tensor
    labels: Tensor


def probe_results(
    features: EvaluationFeatures,
    train: LabeledFeatures,
    scrambled_train: LabeledFeatures,
    scrambled_holdout: LabeledFeatures,
    num_classes: int,
) -> dict[str, ProbeResult]:
    """Fit the class probe to training images, and compare its predictions with labels.

    Returns:
        Results by set of images: samples, (reconstructed) holdout and scrambled (holdout).
    """
    probe = ClassProbe(train.features, train.labels, scrambled_train.features, num_classes)
    sets = {
        "samples": features.samples,
        "holdout": features.reconstructed,
        "scrambled": scrambled_holdout,
    }
    return {
        name: ProbeResult(probe.predict(images.features) == images.labels, images.labels)
        for name, images in sets.items()
    }


def class_scores(results: dict[str, ProbeResult]) -> dict[str, float]:
    """Compute the accuracy of the class probe on each set of images."""
    accuracy = {name: result.correct.float().mean().item() for name, result in results.items()}
    return {
        "class_accuracy": accuracy["samples"],
        "probe_accuracy": accuracy["holdout"],
        "probe_scrambled_accepted": accuracy["scrambled"],
    }
