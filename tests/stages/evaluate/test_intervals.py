"""The intervals of scores: how often they hold the value that other samples have on average."""

import numpy as np
import pytest
import torch

from liquidgen.stages.evaluate.intervals import interval, random_halves
from liquidgen.stages.evaluate.metrics import frechet_distance, kernel_distance, prdc

REFERENCE = torch.randn(150, 8, generator=torch.Generator().manual_seed(10**6))
COUNT, TRIALS = 60, 60


def fd(features):
    return frechet_distance(features, REFERENCE)


def kid(features):
    return kernel_distance(features, REFERENCE, subset_size=len(features), subsets=1, seed=0).mean


def precision(features):
    return prdc(features, REFERENCE, nearest_k=3).precision


def density(features):
    return prdc(features, REFERENCE, nearest_k=3).density


@pytest.mark.parametrize("score", [fd, kid, precision, density])
def test_interval_holds_the_mean_of_other_samples(score):
    random = torch.Generator().manual_seed(0)
    values, intervals = [], []
    for seed in range(TRIALS):
        samples = 1.2 * torch.randn(COUNT, 8, generator=random) + 0.3
        values.append(score(samples))
        halves = [score(samples[rows]) for rows in random_halves(COUNT, seed)]
        intervals.append(interval(score.__name__, values[-1], halves, COUNT))
    mean = np.mean(values)
    assert np.mean([low <= mean <= high for low, high in intervals]) >= 0.85  # and chance
    widths = [high - low for low, high in intervals]
    assert np.mean(widths) < 3 * 2 * 1.96 * np.std(values)  # it says something


def test_halves_repeat_no_image_and_are_bounded():
    for count, size in ((61, 30), (5000, 500)):
        for rows in random_halves(count, seed=0):
            assert len(set(rows.tolist())) == size
            assert rows.max() < 2 * size


def test_interval_of_many_images_is_narrower():
    halves = [1.0, 2.0, 3.0]
    widths = [np.ptp(interval("fd", 2, halves, count)) for count in (1000, 4000)]
    assert widths[1] == pytest.approx(widths[0] / 2)


def test_shares_keep_to_their_bounds_and_have_a_width():
    for name in ("class_accuracy", "precision", "copied_share"):
        low, high = interval(name, 1.0, [1.0] * 16, 500)
        assert 0.98 < low < 1
        assert high == 1
