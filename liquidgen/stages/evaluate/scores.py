"""Computes the scores of an evaluation from features, each beside its floor and its ceiling.

A new score is a function in this file, added to `SCORES`: its values are written, logged and
compared by DVC under the names that it returns, with the values of real images and of noise. The
names of values that are better when they are lower also belong into `LOWER_IS_BETTER`.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor

from liquidgen.config.settings import EvaluateSettings
from liquidgen.stages.evaluate import metrics
from liquidgen.stages.evaluate.class_probe import ClassProbe
from liquidgen.stages.evaluate.feature_extraction import LabeledFeatures

NEIGHBORS_PER_SAMPLE = 5  # training images beside each sample in neighbors.png
REAL, NOISE, RECONSTRUCTION = "train_", "noise_", "reconstruction_"  # in the place of samples
TELLS_NOISE = "_tells_noise"  # 1 or 0, after the name of a score
LOWER_IS_BETTER = ("fd", "fd_pca", "kid")
NUM_COMPONENTS = 64  # principal components of the training images, in which fd_pca is measured
HALVES = 16  # random halves of a set of images, to see how much a score varies
MAX_HALF = 500  # images
MARGIN = 5  # deviations between real images and noise that a score must have


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
        """Return the main scores beside those of real images and noise as one line."""
        # covariances of fewer images than features are singular: their distance is mostly bias
        few = self.protocol["num_compared"] <= self.protocol["num_features"]
        names = {name: REAL + name for name in ("fd_pca" if few else "fd", "kid")}
        names["class_accuracy"] = "probe_accuracy"
        parts = [
            f"{name.replace('_', ' ')} {self.values[name]:.4g} (real images "
            f"{self.values[real]:.4g}, noise {self.values[NOISE + name]:.4g})"
            for name, real in names.items()
            if name in self.values
        ]
        if blind := self.blind:
            count = self.protocol["num_compared"]
            parts.append(f"with {count} images these cannot tell noise from real images: {blind}")
        return ", ".join(parts)

    @property
    def blind(self) -> str:
        """Names of the scores that cannot tell noise from real images."""
        told = {name: value for name, value in self.values.items() if name.endswith(TELLS_NOISE)}
        return ", ".join(
            name.removesuffix(TELLS_NOISE) for name, value in told.items() if not value
        )


@dataclass(frozen=True)
class Compared:
    """What a score compares.

    Attributes:
        samples: Samples of the model, or other images in their place.
        neighbors: The nearest training images of each sample, without the sample itself.
        holdout: Holdout images as they are.
        holdout_distances: Distances (M,) of reconstructed holdout images to their nearest training
            images.
        components: Principal components of the training images.
    """

    samples: LabeledFeatures
    neighbors: metrics.Neighbors
    holdout: LabeledFeatures
    holdout_distances: Tensor
    components: metrics.Components

    def part(self, rows: np.ndarray) -> "Compared":
        """Return the comparison of some of the samples."""
        samples = LabeledFeatures(*(column[rows] for column in self.samples))
        neighbors = metrics.Neighbors(*(column[rows] for column in self.neighbors))
        return replace(self, samples=samples, neighbors=neighbors)


@dataclass(frozen=True)
class EvaluationFeatures:
    """Features of the five sets of images.

    Attributes:
        samples: Samples of the model.
        holdout: Holdout images as they are.
        reconstructed: The same images, encoded and decoded.
        train: Training images, encoded and decoded, in random order.
        noise: Decoded noise, as many as are compared, of the classes in turn, as samples are.
    """

    samples: LabeledFeatures
    holdout: LabeledFeatures
    reconstructed: LabeledFeatures
    train: LabeledFeatures
    noise: LabeledFeatures

    @property
    def num_compared(self) -> int:
        """Number of samples, training images and images of noise that are compared."""
        return len(self.noise.labels)

    def comparisons(self) -> dict[str, Compared]:
        """Return what scores compare, by the prefix of their names.

        All sets but the reconstructions are equally large: the Frechet distance depends on it.
        """
        train = self.train.features
        usual = metrics.nearest_neighbors(self.reconstructed.features, train, count=1).distances
        components = metrics.principal_components(train, NUM_COMPONENTS)
        count = NEIGHBORS_PER_SAMPLE

        def compared(images: LabeledFeatures, itself: int = 0) -> Compared:
            near = metrics.nearest_neighbors(images.features, train, count=count + itself)
            neighbors = metrics.Neighbors(*(column[:, itself:] for column in near))
            return Compared(images, neighbors, self.holdout, usual[:, 0], components)

        def first(images: LabeledFeatures) -> LabeledFeatures:
            return LabeledFeatures(*(column[: self.num_compared] for column in images))

        return {
            "": compared(first(self.samples)),
            REAL: compared(first(self.train), itself=1),
            NOISE: compared(self.noise),
            RECONSTRUCTION: compared(self.reconstructed),
        }


def distances(compared: Compared, settings: EvaluateSettings) -> dict[str, float]:
    """Compute the distances to the holdout."""
    features, reference = compared.samples.features, compared.holdout.features
    project = compared.components.project
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


def memorization(compared: Compared, settings: EvaluateSettings) -> dict[str, float]:
    """Compute the share of samples that are nearer to a training image than usual."""
    nearest = compared.neighbors.distances[:, 0]
    return {"memorized_share": metrics.memorized_share(nearest, compared.holdout_distances)}


Score = Callable[[Compared, EvaluateSettings], dict[str, float]]
SCORES: tuple[Score, ...] = (distances, manifold_overlap, memorization)


def compute_scores(
    comparisons: dict[str, Compared], settings: EvaluateSettings
) -> dict[str, float]:
    """Compute the values of all `SCORES` by name: of samples, real images and noise.

    Reconstructions have no other scores than distances.
    """
    scored = {prefix: _compute_all(comparisons[prefix], settings) for prefix in ("", REAL, NOISE)}
    tells = _tells_noise(comparisons, scored, settings)
    values: dict[str, float] = {}
    for name in scored[""]:
        values |= {prefix + name: of_set[name] for prefix, of_set in scored.items()}
        if name in tells:
            values[name + TELLS_NOISE] = float(tells[name])
    reconstruction = distances(comparisons[RECONSTRUCTION], settings)
    return values | {RECONSTRUCTION + name: value for name, value in reconstruction.items()}


def _compute_all(compared: Compared, settings: EvaluateSettings) -> dict[str, float]:
    values: dict[str, float] = {}
    for score in SCORES:
        values |= score(compared, settings)
    return values


def _tells_noise(
    comparisons: dict[str, Compared],
    scored: dict[str, dict[str, float]],
    settings: EvaluateSettings,
) -> dict[str, bool]:
    """Return of each score whether it can tell noise from real images."""
    halves = _halves(len(comparisons[REAL].samples.labels), settings.seed)
    size = len(halves[0])
    small = settings.model_copy(
        update={
            "kid_subset_size": min(size, len(comparisons[REAL].holdout.labels)),
            "kid_subsets": 1,
            "nearest_k": min(settings.nearest_k, size - 1),
        }
    )
    real, noise = (
        [_compute_all(comparisons[prefix].part(rows), small) for rows in halves]
        for prefix in (REAL, NOISE)
    )
    return {
        name: tells_noise(
            scored[REAL][name],
            scored[NOISE][name],
            [half[name] for half in real],
            [half[name] for half in noise],
            lower_is_better=name in LOWER_IS_BETTER,
        )
        for name in scored[""]
        if not name.endswith("_std")
    }


def _halves(count: int, seed: int) -> list[np.ndarray]:
    """Draw random halves of the first `count` images, at most MAX_HALF images each."""
    size = min(max(2, count // 2), MAX_HALF)
    return [
        np.random.default_rng((seed, number)).permutation(min(count, 2 * size))[:size]
        for number in range(HALVES)
    ]


def tells_noise(
    real: float,
    noise: float,
    real_halves: Iterable[float],
    noise_halves: Iterable[float],
    *,
    lower_is_better: bool,
) -> bool:
    """Return whether a score of real images is better than that of noise by MARGIN deviations.

    The deviation of a score over random halves of a set is that of the score of another set as
    large as the whole.
    """
    gap = noise - real if lower_is_better else real - noise
    return gap > MARGIN * math.hypot(np.std([*real_halves]), np.std([*noise_halves]))


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


def class_scores(results: dict[str, ProbeResult], seed: int) -> dict[str, float]:
    """Compute the accuracy of the class probe on each set of images.

    Args:
        results: Results by set of images.
        seed: Seed of the halves by which it is seen whether the accuracy tells noise.
    """
    correct = {name: result.correct.float() for name, result in results.items()}
    accuracy = {name: values.mean().item() for name, values in correct.items()}
    real, noise = (
        [values[rows].mean().item() for rows in _halves(len(values), seed)]
        for values in (correct["holdout"], correct["noise"])
    )
    told = tells_noise(accuracy["holdout"], accuracy["noise"], real, noise, lower_is_better=False)
    return {
        "class_accuracy": accuracy["samples"],
        "probe_accuracy": accuracy["holdout"],
        NOISE + "class_accuracy": accuracy["noise"],
        "class_accuracy" + TELLS_NOISE: float(told),
        "probe_scrambled_accepted": accuracy["scrambled"],
    }
