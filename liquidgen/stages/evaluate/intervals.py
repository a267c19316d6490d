"""How much a score varies between equally large sets of images: halves, intervals, blind scores.

Halves are drawn without replacement. The usual bootstrap repeats images, and repeated images shift
a Frechet distance and every count of near neighbors.
"""

import math
from collections.abc import Sequence

import numpy as np

from liquidgen.score_names import CLASS_ACCURACY, COPIED

HALVES = 16  # random halves of a set of images, to see how much a score varies
MAX_HALF = 500  # images
MARGIN = 5  # deviations between real images and noise that a score must have
CONFIDENCE = 0.95
SHARES = ("precision", COPIED, CLASS_ACCURACY)  # of the evaluated images
# grow with the number of images, so that halves say nothing about the whole: no interval
GROWING = ("recall", "coverage")

Interval = tuple[float, float]


def random_halves(count: int, seed: int) -> list[np.ndarray]:
    """Draw random halves of the first `count` images, at most MAX_HALF images each."""
    size = _half(count)
    return [
        np.random.default_rng((seed, number)).permutation(min(count, 2 * size))[:size]
        for number in range(HALVES)
    ]


def interval(name: str, value: float, halves: Sequence[float], count: int) -> Interval:
    """Compute the 95 % interval of a score over other samples of the same model.

    The reference and the number of samples stay the same, so that intervals tell whether models
    differ that were scored against the same images.

    A jackknife that deletes half of the images (Shao and Wu 1989): the variance of a score between
    halves, of a set of N images without replacement, estimates that of the score of N other images.
    It is centered at the score of all images, as that of halves has another bias. Shares of the
    evaluated images have Wilson's interval of a binomial proportion, which at 0 and 1 has a width.

    Args:
        name: Name of the score.
        value: The score of all images.
        halves: Scores of `random_halves`.
        count: Number of images N.
    """
    from scipy import stats

    if name in SHARES:
        proportion = stats.binomtest(round(value * count), count)
        low, high = proportion.proportion_ci(CONFIDENCE, method="wilson")
        return float(low), float(high)
    pool = min(count, 2 * _half(count))  # what the halves are drawn from
    width = stats.t.ppf((1 + CONFIDENCE) / 2, len(halves) - 1) * np.std(halves, ddof=1)
    width *= math.sqrt(pool / count)
    return float(value - width), float(value + width)


def tells_noise(
    real: float,
    noise: float,
    real_halves: Sequence[float],
    noise_halves: Sequence[float],
    *,
    lower_is_better: bool,
) -> bool:
    """Return whether a score of real images is better than that of noise by MARGIN deviations."""
    gap = noise - real if lower_is_better else real - noise
    return gap > MARGIN * math.hypot(np.std(real_halves), np.std(noise_halves))


def _half(count: int) -> int:
    return min(max(2, count // 2), MAX_HALF)
