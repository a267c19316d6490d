"""Known values of the metrics, on features drawn from known distributions."""

import pytest
import torch
from torchmetrics.image.fid import FrechetInceptionDistance

from liquidgen.stages.evaluate import metrics
from liquidgen.stages.evaluate.metrics import (
    copied_share,
    copy_ratios,
    frechet_distance,
    kernel_distance,
    nearest_neighbors,
    prdc,
    principal_components,
)

KID = {"subset_size": 200, "subsets": 20, "seed": 0}


def gaussian(count, seed, size=8):
    return torch.randn(count, size, generator=torch.Generator().manual_seed(seed))


def test_frechet_distance_of_shift_is_its_square():
    features = gaussian(500, 0)
    shift = torch.zeros(8)
    shift[0] = 3
    assert frechet_distance(features + shift, features) == pytest.approx(9, rel=1e-4)


def test_frechet_distance_of_scaled_set_is_known():
    features = gaussian(500, 0)
    variances = (features - features.mean(0)).var(0)
    centered = features - features.mean(0)
    expected = variances.sum().item() * (3 - 1) ** 2
    assert frechet_distance(3 * centered, centered) == pytest.approx(expected, rel=1e-3)


def test_frechet_distance_of_set_to_itself_is_zero():
    features = gaussian(500, 0)
    assert frechet_distance(features, features) == pytest.approx(0, abs=1e-3)


class Unchanged(torch.nn.Module):
    """Takes the place of torchmetrics' feature network."""

    def __init__(self, num_features):
        super().__init__()
        self.num_features = num_features

    def forward(self, features):
        return features


@pytest.mark.parametrize(("count", "size"), [(400, 32), (50, 32), (20, 32)])
def test_frechet_distance_agrees_with_torchmetrics(count, size):
    """Also where there are fewer images than features, so that covariances are singular."""
    features, reference = gaussian(count, 0, size), gaussian(count + 7, 1, size).exp()
    metric = FrechetInceptionDistance(feature=Unchanged(size))
    metric.update(reference, real=True)
    metric.update(features, real=False)
    expected = metric.compute().item()
    assert frechet_distance(features, reference) == pytest.approx(expected, rel=1e-3)


def test_principal_components_keep_what_varies_most():
    features = gaussian(500, 0) * torch.tensor([1, 2, 30, 4, 5, 60, 7, 8]) + 100
    components = principal_components(features, 2)
    projected = components.project(features)
    assert projected.shape == (500, 2)
    assert projected.mean(0).abs().max() < 1e-3
    assert projected.var(0).sum() > 0.99 * features[:, [2, 5]].var(0).sum()
    # fewer images than components: as many as there are
    assert principal_components(features[:3], 64).directions.shape == (8, 3)


def test_kernel_distance_is_unbiased():
    pairs = [(gaussian(400, 2 * i), gaussian(400, 2 * i + 1)) for i in range(8)]
    means = torch.tensor([kernel_distance(a, b, **KID).mean for a, b in pairs])
    shifted = kernel_distance(pairs[0][0] + 0.5, pairs[0][1], **KID).mean
    assert means.mean().abs() < 3 * means.std() / 8**0.5
    assert shifted > 10 * means.abs().max()


def test_kernel_distance_depends_on_seed_only():
    features, reference = gaussian(400, 0), gaussian(400, 1)
    torch.manual_seed(5)
    first = kernel_distance(features, reference, **KID)
    torch.manual_seed(6)
    assert kernel_distance(features, reference, **KID) == first
    assert kernel_distance(features, reference, **{**KID, "seed": 1}) != first


def test_kernel_distance_keeps_global_random_state():
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    kernel_distance(gaussian(400, 0), gaussian(400, 1), **KID)
    assert torch.rand(1) == expected


def test_prdc_of_equal_sets_is_one():
    features = gaussian(200, 0)
    scores = prdc(features, features, nearest_k=5)
    assert (scores.precision, scores.recall, scores.coverage) == (1, 1, 1)


def test_density_is_one_in_expectation():
    pairs = [(gaussian(300, 2 * i), gaussian(300, 2 * i + 1)) for i in range(8)]
    scores = [prdc(*pair, nearest_k=5) for pair in pairs]
    mean = sum(score.density for score in scores) / len(scores)
    assert mean == pytest.approx(1, abs=0.1)


def test_prdc_of_distant_sets_is_zero():
    scores = prdc(gaussian(200, 0) + 100, gaussian(200, 1), nearest_k=5)
    assert scores == (0, 0, 0, 0)


def test_lost_mode_costs_recall_and_coverage():
    reference = torch.cat([gaussian(200, 0), gaussian(200, 1) + 100])
    scores = prdc(gaussian(400, 2), reference, nearest_k=5)
    assert scores.precision > 0.9
    assert scores.recall < 0.55
    assert scores.coverage < 0.55


def test_nearest_neighbor_of_copy_is_its_original():
    training = gaussian(300, 0, size=128)
    found = nearest_neighbors(training[[7, 42]], training, count=3)
    assert found.indices[:, 0].tolist() == [7, 42]
    assert (found.distances[:, 0] == 0).all()
    assert (found.distances.diff(dim=1) >= 0).all()


def test_tables_of_distances_are_bounded(monkeypatch):
    features, reference = gaussian(300, 0), gaussian(200, 1)
    expected = prdc(features, reference, nearest_k=5)
    near = nearest_neighbors(features, reference, count=3)
    sizes = []
    real_distances = metrics.distances

    def counted(one, other):
        result = real_distances(one, other)
        sizes.append(result.numel())
        return result

    monkeypatch.setattr(metrics, "distances", counted)
    monkeypatch.setattr(metrics, "MAX_DISTANCES", 2000)
    assert prdc(features, reference, nearest_k=5) == pytest.approx(expected)
    assert torch.equal(nearest_neighbors(features, reference, count=3).indices, near.indices)
    assert max(sizes) <= 2000


def test_nearest_neighbors_are_those_of_exact_distances():
    features, training = gaussian(200, 0, size=128), gaussian(500, 1, size=128)
    found = nearest_neighbors(features, training, count=5)
    exact = metrics.distances(features, training).topk(5, largest=False)
    assert torch.equal(found.indices, exact.indices)
    assert torch.allclose(found.distances, exact.values)


def test_copy_is_less_than_half_as_far_from_one_image_as_from_the_others():
    distances = torch.tensor([[0.0, 9, 9], [0.4, 0.9, 1], [0.6, 0.7, 1], [0, 0, 0]])
    ratios = copy_ratios(distances)
    assert ratios.tolist() == pytest.approx([0, 0.4, 0.6, 1])
    assert copied_share(ratios) == 0.5


def test_only_training_image_has_no_copies():
    assert copy_ratios(torch.zeros(3, 1)).tolist() == [1, 1, 1]
