"""Known answers of every score, on features drawn from known distributions."""

import pytest
import torch

from liquidgen.stages.evaluate.metrics import (
    coverage,
    frechet_distance,
    kernel_distance,
    memorized_share,
    nearest,
)
from liquidgen.utils.errors import UserError

KID = {"subset_size": 200, "subsets": 20, "seed": 0}


def gaussian(count, seed, size=8):
    return torch.randn(count, size, generator=torch.Generator().manual_seed(seed))


def test_the_frechet_distance_of_a_shift_is_its_square():
    features = gaussian(500, 0)
    shift = torch.zeros(8)
    shift[0] = 3
    assert frechet_distance(features + shift, features) == pytest.approx(9, rel=1e-4)


def test_the_frechet_distance_of_a_scale_is_the_squared_difference_of_deviations():
    features = gaussian(500, 0)
    variances = (features - features.mean(0)).var(0)
    centred = features - features.mean(0)
    expected = variances.sum().item() * (3 - 1) ** 2
    assert frechet_distance(3 * centred, centred) == pytest.approx(expected, rel=1e-3)


def test_the_frechet_distance_of_a_set_to_itself_is_zero():
    features = gaussian(500, 0)
    assert frechet_distance(features, features) == pytest.approx(0, abs=1e-3)


def test_the_kernel_distance_of_equal_distributions_is_zero_in_expectation():
    pairs = [(gaussian(400, 2 * i), gaussian(400, 2 * i + 1)) for i in range(8)]
    means = torch.tensor([kernel_distance(a, b, **KID).mean for a, b in pairs])
    shifted = kernel_distance(pairs[0][0] + 0.5, pairs[0][1], **KID).mean
    assert means.mean().abs() < 3 * means.std() / 8**0.5
    assert shifted > 10 * means.abs().max()


def test_the_kernel_distance_is_a_function_of_its_seed():
    features, reference = gaussian(400, 0), gaussian(400, 1)
    torch.manual_seed(5)
    first = kernel_distance(features, reference, **KID)
    torch.manual_seed(6)
    assert kernel_distance(features, reference, **KID) == first
    assert kernel_distance(features, reference, **{**KID, "seed": 1}) != first


def test_scoring_leaves_the_random_state_alone():
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    kernel_distance(gaussian(400, 0), gaussian(400, 1), **KID)
    assert torch.rand(1) == expected


def test_a_kid_subset_larger_than_a_set_is_refused_by_key():
    with pytest.raises(UserError, match=r"evaluate\.kid_subset_size: 200 .* 50"):
        kernel_distance(gaussian(50, 0), gaussian(400, 1), **KID)


def test_equal_sets_are_precise_and_covered():
    features = gaussian(200, 0)
    scores = coverage(features, features, nearest_k=5)
    assert (scores.precision, scores.recall, scores.coverage) == (1, 1, 1)


def test_density_of_equal_distributions_is_one_in_expectation():
    pairs = [(gaussian(300, 2 * i), gaussian(300, 2 * i + 1)) for i in range(8)]
    scores = [coverage(*pair, nearest_k=5) for pair in pairs]
    mean = sum(score.density for score in scores) / len(scores)
    assert mean == pytest.approx(1, abs=0.1)


def test_distant_sets_are_neither_precise_nor_covered():
    scores = coverage(gaussian(200, 0) + 100, gaussian(200, 1), nearest_k=5)
    assert scores == (0, 0, 0, 0)


def test_a_lost_mode_costs_recall_and_coverage_but_not_precision():
    reference = torch.cat([gaussian(200, 0), gaussian(200, 1) + 100])
    scores = coverage(gaussian(400, 2), reference, nearest_k=5)
    assert scores.precision > 0.9
    assert scores.recall < 0.55
    assert scores.coverage < 0.55


def test_too_many_neighbors_are_refused_by_key():
    with pytest.raises(UserError, match=r"evaluate\.nearest_k: 5 .* less than 5"):
        coverage(gaussian(5, 0), gaussian(100, 1), nearest_k=5)


def test_a_copy_finds_its_original_at_distance_zero():
    training = gaussian(300, 0, size=128)
    found = nearest(training[[7, 42]], training, count=3)
    assert found.indices[:, 0].tolist() == [7, 42]
    assert (found.distances[:, 0] == 0).all()
    assert (found.distances.diff(dim=1) >= 0).all()


def test_copies_are_memorised_and_fresh_pictures_are_not():
    training, holdout = gaussian(300, 0), gaussian(300, 1)
    usual = nearest(holdout, training, count=1).distances[:, 0]
    fresh = nearest(gaussian(300, 2), training, count=1).distances[:, 0]
    copies = nearest(training[:50] + 1e-3, training, count=1).distances[:, 0]
    assert memorized_share(copies, usual) == 1
    assert memorized_share(fresh, usual) == pytest.approx(0.5, abs=0.12)
