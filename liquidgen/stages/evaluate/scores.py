"""Computes the scores of an evaluation from features, each beside its floor and its ceiling.

Only the share of copies has no ceiling: noise is no copy, as new images are none.

A new score is a function in this file, added to `SCORES`: its values are written, logged and
compared by DVC under the names that it returns, with the values of real images and of noise. The
names of values that are better when they are lower also belong into `LOWER_IS_BETTER` of
`liquidgen.score_names`, and those that grow with the number of samples into `GROWING`.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from torch import Tensor

from liquidgen.config.settings import EvaluateSettings
from liquidgen.score_names import (
    CLASS_ACCURACY,
    COPIED,
    DEVIATION,
    LOWER_IS_BETTER,
    NOISE,
    REAL,
    REAL_ACCURACY,
    RECONSTRUCTION,
    TELLS_NOISE,
)
from liquidgen.stages.evaluate import metrics
from liquidgen.stages.evaluate.class_probe import ClassProbe
from liquidgen.stages.evaluate.feature_extraction import LabeledFeatures
from liquidgen.stages.evaluate.intervals import (
    GROWING,
    Interval,
    interval,
    random_halves,
    tells_noise,
)

NUM_NEIGHBORS = 5  # nearest training images of each sample, times the number of versions of each
NUM_COMPONENTS = 64  # principal components of the training images, in which fd_pca is measured


@dataclass(frozen=True)
class Compared:
    """What a score compares.

    Attributes:
        samples: Samples of the model, or other images in their place.
        holdout: Holdout images as they are.
        components: Principal components of the training images.
    """

    samples: LabeledFeatures
    holdout: LabeledFeatures
    components: metrics.Components

    def part(self, rows: np.ndarray) -> "Compared":
        """Return the comparison of some of the samples."""
        return replace(self, samples=LabeledFeatures(*(column[rows] for column in self.samples)))


@dataclass(frozen=True)
class EvaluationFeatures:
    """Features of the five sets of images.

    Attributes:
        samples: Samples of the model.
        holdout: Holdout images as they are.
        reconstructed: The same images, encoded and decoded.
        train: Training images, encoded and decoded, in random order; their variants come last.
        noise: Decoded noise, as many as are compared, of the classes in turn, as samples are.
        augmented_variants: How many variants of each training image there are beside it.
    """

    samples: LabeledFeatures
    holdout: LabeledFeatures
    reconstructed: LabeledFeatures
    train: LabeledFeatures
    noise: LabeledFeatures
    augmented_variants: int

    @property
    def num_compared(self) -> int:
        """Number of samples, training images and images of noise that are compared."""
        return len(self.noise.labels)

    def comparisons(self) -> dict[str, Compared]:
        """Return what scores compare, by the prefix of their names.

        All sets but the reconstructions are equally large: the Frechet distance depends on it.
        """
        originals = len(self.train.labels) // (1 + self.augmented_variants)
        components = metrics.principal_components(self.train.features[:originals], NUM_COMPONENTS)
        sets = {
            "": self._first(self.samples),
            REAL: self._first(self.train),
            NOISE: self.noise,
            RECONSTRUCTION: self.reconstructed,
        }
        return {
            prefix: Compared(images, self.holdout, components) for prefix, images in sets.items()
        }

    def neighbors(self) -> dict[str, metrics.Neighbors]:
        """Return the nearest training images of the samples, and of the holdout reconstructed.

        By the thumbnails: the features of a blurred copy are far from those of its original. More
        neighbors are needed with variants: these are near each other, and would hide copies.
        """
        count = NUM_NEIGHBORS * (1 + self.augmented_variants)
        sets = {"": self._first(self.samples), RECONSTRUCTION: self.reconstructed}
        training = self.train.thumbnails.flatten(1).float()
        return {
            prefix: metrics.nearest_neighbors(
                images.thumbnails.flatten(1).float(), training, count=count
            )
            for prefix, images in sets.items()
        }

    def _first(self, images: LabeledFeatures) -> LabeledFeatures:
        return LabeledFeatures(*(column[: self.num_compared] for column in images))


def distances(compared: Compared, settings: EvaluateSettings) -> dict[str, float]:
    """Compute the distances to the holdout."""
    features, reference = compared.samples.features, compared.holdout.features
    return feature_distances(features, reference, compared.components, settings)


def feature_distances(
    features: Tensor, reference: Tensor, components: metrics.Components, settings: EvaluateSettings
) -> dict[str, float]:
    """Compute the distances between features (N, D) and those of reference images (M, D)."""
    project = components.project
    kid = metrics.kernel_distance(
        features,
        reference,
        subset_size=settings.kid_subset_size,
        subsets=settings.kid_subsets,
        seed=settings.seed,
    )
    return {
        "fd": metrics.frechet_distance(features, reference),
        "fd_pca": metrics.frechet_distance(project(features), project(reference)),
        "kid": kid.mean,
        "kid_std": kid.std,
    }


def manifold_overlap(compared: Compared, settings: EvaluateSettings) -> dict[str, float]:
    """Compute precision, recall, density and coverage."""
    return metrics.prdc(
        compared.samples.features, compared.holdout.features, nearest_k=settings.nearest_k
    )._asdict()


Score = Callable[[Compared, EvaluateSettings], dict[str, float]]
SCORES: tuple[Score, ...] = (distances, manifold_overlap)


class Computed(NamedTuple):
    """Values of scores, and the 95 % intervals of those of the samples, by name."""

    values: dict[str, float]
    intervals: dict[str, Interval]


def compute_scores(comparisons: dict[str, Compared], settings: EvaluateSettings) -> Computed:
    """Compute all `SCORES`: of samples, real images and noise.

    Reconstructions have no other scores than distances.
    """
    sets = {prefix: comparisons[prefix] for prefix in ("", REAL, NOISE)}
    scored = {prefix: _compute_all(compared, settings) for prefix, compared in sets.items()}
    halves = {prefix: _compute_halves(compared, settings) for prefix, compared in sets.items()}
    values: dict[str, float] = {}
    intervals: dict[str, Interval] = {}
    for name in scored[""]:
        values |= {prefix + name: of_set[name] for prefix, of_set in scored.items()}
        if name.endswith(DEVIATION):
            continue
        in_halves = {prefix: [half[name] for half in halves[prefix]] for prefix in sets}
        told = tells_noise(
            scored[REAL][name],
            scored[NOISE][name],
            in_halves[REAL],
            in_halves[NOISE],
            lower_is_better=name in LOWER_IS_BETTER,
        )
        values[name + TELLS_NOISE] = float(told)
        if name not in GROWING:
            count = len(comparisons[""].samples.labels)
            intervals[name] = interval(name, scored[""][name], in_halves[""], count)
    reconstruction = distances(comparisons[RECONSTRUCTION], settings)
    values |= {RECONSTRUCTION + name: value for name, value in reconstruction.items()}
    return Computed(values, intervals)


def copied_shares(neighbors: dict[str, metrics.Neighbors]) -> Computed:
    """Compute the share of copies among the samples, and that of the holdout as its floor."""
    values = {
        prefix + COPIED: metrics.copied_share(metrics.copy_ratios(near.distances))
        for prefix, near in neighbors.items()
    }
    count = len(neighbors[""].distances)
    return Computed(values, {COPIED: interval(COPIED, values[COPIED], (), count)})


def _compute_all(compared: Compared, settings: EvaluateSettings) -> dict[str, float]:
    values: dict[str, float] = {}
    for score in SCORES:
        values |= score(compared, settings)
    return values


def _compute_halves(compared: Compared, settings: EvaluateSettings) -> list[dict[str, float]]:
    """Compute all scores of random halves of the images."""
    halves = random_halves(len(compared.samples.labels), settings.seed)
    size = len(halves[0])
    small = settings.model_copy(
        update={
            "kid_subset_size": min(size, len(compared.holdout.labels)),
            "kid_subsets": 1,
            "nearest_k": min(settings.nearest_k, size - 1),
        }
    )
    return [_compute_all(compared.part(rows), small) for rows in halves]


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
        Results by set of images: samples, (reconstructed) holdout, scrambled (holdout) and noise.
    """
    probe = ClassProbe(train.features, train.labels, scrambled_train.features, num_classes)
    sets = {
        "samples": features.samples,
        "holdout": features.reconstructed,
        "scrambled": scrambled_holdout,
        "noise": features.noise,
    }
    return {
        name: ProbeResult(probe.predict(images.features) == images.labels, images.labels)
        for name, images in sets.items()
    }


def class_scores(results: dict[str, ProbeResult], seed: int) -> Computed:
    """Compute the accuracy of the class probe on each set of images.

    Args:
        results: Results by set of images.
        seed: Seed of the halves by which it is seen whether the accuracy tells noise.
    """
    correct = {name: result.correct.float() for name, result in results.items()}
    accuracy = {name: values.mean().item() for name, values in correct.items()}
    halves = {
        name: [values[rows].mean().item() for rows in random_halves(len(values), seed)]
        for name, values in correct.items()
    }
    told = tells_noise(
        accuracy["holdout"],
        accuracy["noise"],
        halves["holdout"],
        halves["noise"],
        lower_is_better=False,
    )
    values = {
        CLASS_ACCURACY: accuracy["samples"],
        REAL_ACCURACY: accuracy["holdout"],
        NOISE + CLASS_ACCURACY: accuracy["noise"],
        CLASS_ACCURACY + TELLS_NOISE: float(told),
        "probe_scrambled_accepted": accuracy["scrambled"],
    }
    count = len(correct["samples"])
    of_samples = accuracy["samples"], halves["samples"], count
    return Computed(values, {"class_accuracy": interval("class_accuracy", *of_samples)})
