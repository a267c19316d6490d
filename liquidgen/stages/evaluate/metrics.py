"""Distances between sets of features (N, D), and of each image to its neighbors.

`features` are of the evaluated images, `reference` of real ones; both float (N, D), N may differ.
"""

import warnings
from typing import NamedTuple

import torch
from torch import Tensor, nn

from liquidgen.utils.errors import UserError

# the features of all processes are here: torchmetrics must not ask the others for theirs
COMPLETE = {"sync_on_compute": False}


class _Ready(nn.Module):
    """Stands where torchmetrics expects a network: the features are there already."""

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.num_features = num_features

    def forward(self, features: Tensor) -> Tensor:
        return features


def frechet_distance(features: Tensor, reference: Tensor) -> float:
    """Squared Frechet distance of the normal distributions fitted to both sets.

    Heusel et al. 2017, equation 6. Biased upwards by about D / N: compare at equal N only.
    """
    from torchmetrics.image.fid import FrechetInceptionDistance

    metric = FrechetInceptionDistance(feature=_Ready(features.shape[1]), **COMPLETE)
    metric.update(reference, real=True)
    metric.update(features, real=False)
    return metric.compute().item()


class Kid(NamedTuple):
    """Kernel distance: mean over the subsets, and the deviation between them."""

    mean: float
    std: float


def kernel_distance(
    features: Tensor, reference: Tensor, *, subset_size: int, subsets: int, seed: int
) -> Kid:
    """Squared maximum mean discrepancy with the kernel (x.y / D + 1)^3 (Binkowski et al. 2018).

    Unbiased: 0 in expectation for equal distributions at any N, so it may be slightly negative.

    Raises:
        UserError: a set has fewer pictures than a subset.
    """
    from torchmetrics.image.kid import KernelInceptionDistance

    smallest = min(len(features), len(reference))
    if subset_size > smallest:
        raise UserError(
            f"evaluate.kid_subset_size: {subset_size} is more than the {smallest} pictures of "
            f"the smaller set; set it to at most {smallest}, or make more pictures"
        )
    with warnings.catch_warnings():  # features stay in memory: they are small
        warnings.filterwarnings("ignore", message=".* will save all extracted features")
        metric = KernelInceptionDistance(
            feature=_Ready(features.shape[1]), subsets=subsets, subset_size=subset_size, **COMPLETE
        )
    metric.update(reference, real=True)
    metric.update(features, real=False)
    with torch.random.fork_rng(devices=[]):  # torchmetrics draws subsets from the global state
        torch.manual_seed(seed)
        mean, std = metric.compute()
    return Kid(mean.item(), std.item())


class Coverage(NamedTuple):
    """How much of the all_features pictures is real-like, and how much of the real ones is met.

    | field | share, or (density) average, of | range |
    |---|---|---|
    | precision | all_features pictures within the reference's neighbourhoods | 0..1 |
    | recall | reference pictures within the all_features pictures' neighbourhoods | 0..1 |
    | density | neighbourhoods of the reference that a all_features picture is in, over k | 0.. |
    | coverage | reference pictures with a all_features one in their neighbourhood | 0..1 |
    """

    precision: float
    recall: float
    density: float
    coverage: float


def coverage(features: Tensor, reference: Tensor, *, nearest_k: int) -> Coverage:
    """Precision and recall (Kynkaanniemi et al. 2019), density and coverage (Naeem et al. 2020).

    The neighbourhood of a picture is the ball out to its `nearest_k`-th nearest of its own set.

    Raises:
        UserError: a set has no more pictures than `nearest_k`.
    """
    smallest = min(len(features), len(reference))
    if nearest_k >= smallest:
        raise UserError(
            f"evaluate.nearest_k: {nearest_k} is too many for {smallest} pictures; "
            f"set it to less than {smallest}, or make more pictures"
        )
    between = distances(features, reference)
    in_reference = between <= _radii(reference, nearest_k)
    in_features = between <= _radii(features, nearest_k)[:, None]
    return Coverage(
        precision=in_reference.any(1).float().mean().item(),
        recall=in_features.any(0).float().mean().item(),
        density=in_reference.sum(1).float().mean().item() / nearest_k,
        coverage=in_reference.any(0).float().mean().item(),
    )


def distances(features: Tensor, reference: Tensor) -> Tensor:
    """Euclidean distances (N, M); exact where pictures are equal, unlike the product form."""
    return torch.cdist(features, reference, compute_mode="donot_use_mm_for_euclid_dist")


class Nearest(NamedTuple):
    """The nearest training pictures: distances (N, k) and indices (N, k), nearest first."""

    distances: Tensor
    indices: Tensor


def nearest(features: Tensor, training: Tensor, *, count: int) -> Nearest:
    """The `count` nearest training pictures of each picture, or as many as there are."""
    count = min(count, len(training))
    parts = [distances(part, training).topk(count, largest=False) for part in features.split(256)]
    return Nearest(torch.cat([p.values for p in parts]), torch.cat([p.indices for p in parts]))


def memorized_share(sample_distances: Tensor, holdout_distances: Tensor) -> float:
    """Share of samples nearer to a training picture than the median holdout picture is.

    | argument | is |
    |---|---|
    | sample_distances, holdout_distances | to the nearest training picture, (N,) and (M,) |

    About 0.5 for fresh pictures like the holdout, 1 for copies of the training pictures.
    """
    return (sample_distances < holdout_distances.median()).float().mean().item()


def _radii(features: Tensor, nearest_k: int) -> Tensor:
    # the picture itself, at distance 0, is the first of the nearest
    return distances(features, features).kthvalue(nearest_k + 1, dim=1).values
