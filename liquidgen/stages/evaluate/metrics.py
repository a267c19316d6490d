"""Distances between sets of features (N, D), and from each image to its neighbors.

`features` are those of the evaluated images, `reference` those of real images; N may differ. The
vectors of `nearest_neighbors` may be pixels as well.
"""

import math
import warnings
from typing import NamedTuple

import torch
from torch import Tensor, nn

COPY_RATIO = 0.5  # below it a sample counts as a copy: docs/scores.md shows what that finds
MAX_DISTANCES = 2**23  # in memory at a time
MAX_ROWS = 1024  # images whose distances are in memory at a time
SPARE = 8  # candidates beyond the nearest neighbors, for distances that are equal but for rounding
NO_SYNC = {"sync_on_compute": False}  # features are already gathered from all processes


class _Identity(nn.Module):
    """Takes the place of the feature network in torchmetrics: features are computed already."""

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.num_features = num_features

    def forward(self, features: Tensor) -> Tensor:
        return features


def frechet_distance(features: Tensor, reference: Tensor) -> float:
    """Compute the squared Frechet distance of the normal distributions fitted to both sets.

    Heusel et al. 2017, equation 6. Biased upwards by about D / N: compare at equal N only. The
    trace of the square root of the product of the covariances is the nuclear norm of the product of
    the triangular factors of the centered sets, so that singular covariances, as of fewer images
    than features, cost no accuracy.
    """
    mean, factor = _mean_and_factor(features)
    reference_mean, reference_factor = _mean_and_factor(reference)
    variances = factor.square().sum() + reference_factor.square().sum()
    shared = torch.linalg.svdvals(factor @ reference_factor.T).sum()
    return ((mean - reference_mean).square().sum() + variances - 2 * shared).item()


def _mean_and_factor(features: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean, and a triangular factor R of the covariance R.T @ R, in double precision."""
    mean = features.double().mean(0)
    centered = (features - mean) / math.sqrt(len(features) - 1)
    return mean, torch.linalg.qr(centered, mode="r").R


class Components(NamedTuple):
    """Mean (D,) and leading principal components (D, K) of features."""

    mean: Tensor
    directions: Tensor

    def project(self, features: Tensor) -> Tensor:
        """Project features (N, D) on the components: (N, K)."""
        return (features - self.mean) @ self.directions


def principal_components(features: Tensor, count: int) -> Components:
    """Find the `count` leading principal components of features (N, D), or all D or N of them."""
    mean, factor = _mean_and_factor(features)
    directions = torch.linalg.svd(factor, full_matrices=False).Vh[:count].T
    return Components(mean.to(features.dtype), directions.to(features.dtype))


class Kid(NamedTuple):
    """Kernel distance: mean over the subsets, and standard deviation between them."""

    mean: float
    std: float


def kernel_distance(
    features: Tensor, reference: Tensor, *, subset_size: int, subsets: int, seed: int
) -> Kid:
    """Compute the squared maximum mean discrepancy with the kernel (x.y / D + 1)^3.

    Binkowski et al. 2018. Unbiased: the expectation is 0 for equal distributions at any
    N, so it may be slightly negative.

    Args:
        features: (N, D).
        reference: (M, D).
        subset_size: Images per subset, at most N and M.
        subsets: Number of subsets.
        seed: Seed of the subsets.
    """
    from torchmetrics.image.kid import KernelInceptionDistance

    with warnings.catch_warnings():  # the features are small enough for memory
        warnings.filterwarnings("ignore", message=".* will save all extracted features")
        metric = KernelInceptionDistance(
            feature=_Identity(features.shape[1]),
            subsets=subsets,
            subset_size=subset_size,
            **NO_SYNC,
        )
    metric.update(reference, real=True)
    metric.update(features, real=False)
    with torch.random.fork_rng(devices=[]):  # torchmetrics draws subsets from the global generator
        torch.manual_seed(seed)
        mean, std = metric.compute()
    return Kid(mean.item(), std.item())


class Prdc(NamedTuple):
    """Precision, recall, density and coverage.

    The neighborhood of an image is the ball out to its k-th nearest neighbor in its own set.

    Attributes:
        precision: Share of evaluated images within a neighborhood of the reference, 0 to 1.
        recall: Share of reference images within a neighborhood of the evaluated images, 0 to 1.
        density: Mean number of neighborhoods of the reference around an evaluated image, over k.
        coverage: Share of reference images with an evaluated image in their neighborhood, 0 to 1.
    """

    precision: float
    recall: float
    density: float
    coverage: float


def prdc(features: Tensor, reference: Tensor, *, nearest_k: int) -> Prdc:
    """Compute precision and recall, density and coverage.

    Kynkaanniemi et al. 2019 and Naeem et al. 2020.

    Args:
        features: (N, D).
        reference: (M, D).
        nearest_k: Rank of the neighbor that bounds a neighborhood, less than N and M.
    """
    radii, reference_radii = (_radii(each, nearest_k) for each in (features, reference))
    neighborhoods = 0  # of the reference, around all evaluated images
    precise = 0
    covered = torch.zeros(len(reference), dtype=torch.bool)
    recalled = covered.clone()
    rows = _rows(reference)
    for part, part_radii in zip(features.split(rows), radii.split(rows), strict=True):
        between = distances(part, reference)
        inside = between <= reference_radii
        neighborhoods += int(inside.sum())
        precise += int(inside.any(1).sum())
        covered |= inside.any(0)
        recalled |= (between <= part_radii[:, None]).any(0)
    return Prdc(
        precision=precise / len(features),
        recall=recalled.float().mean().item(),
        density=neighborhoods / len(features) / nearest_k,
        coverage=covered.float().mean().item(),
    )


def distances(features: Tensor, reference: Tensor) -> Tensor:
    """Compute Euclidean distances (N, M); exact for equal images, unlike the product form."""
    return torch.cdist(features, reference, compute_mode="donot_use_mm_for_euclid_dist")


class Neighbors(NamedTuple):
    """Distances (N, k) and indices (N, k) of the nearest neighbors, nearest first."""

    distances: Tensor
    indices: Tensor


def nearest_neighbors(vectors: Tensor, training: Tensor, *, count: int) -> Neighbors:
    """Find the `count` nearest training images of each image, or all if there are fewer."""
    count = min(count, len(training))
    parts = [_nearest(part, training, count) for part in vectors.split(_rows(training))]
    return Neighbors(torch.cat([p.distances for p in parts]), torch.cat([p.indices for p in parts]))


def _nearest(vectors: Tensor, training: Tensor, count: int) -> Neighbors:
    # candidates by the product form, which is rounded, but many times as fast
    rounded = torch.cdist(vectors, training, compute_mode="use_mm_for_euclid_dist")
    candidates = rounded.topk(min(count + SPARE, len(training)), largest=False).indices
    exact = distances(vectors[:, None], training[candidates])[:, 0]
    nearest, order = exact.sort(dim=1)
    return Neighbors(nearest[:, :count], candidates.gather(1, order)[:, :count])


def copy_ratios(distances: Tensor) -> Tensor:
    """Compute how much nearer samples are to one training image than to others.

    Images that lack detail are near many training images, and a copy is near few (Yoon et al. 2023,
    "Diffusion probabilistic models generalize when they fail to memorize", compare the nearest with
    the second). The last distance takes the place of the second here, so that training images which
    exist several times, or mirrored, do not hide their copies.

    Args:
        distances: Distances (N, K) of samples to their K nearest training images, in rising order.

    Returns:
        Ratios (N,) of the first to the last distance; 1 where both are 0.
    """
    first, last = distances[:, 0], distances[:, -1]
    return torch.where(last > 0, first / last, 1.0)


def copied_share(ratios: Tensor) -> float:
    """Compute the share of samples whose copy ratio (N,) is below COPY_RATIO."""
    return (ratios < COPY_RATIO).float().mean().item()


def _radii(features: Tensor, nearest_k: int) -> Tensor:
    # the image itself, at distance 0, is the first of the nearest
    return nearest_neighbors(features, features, count=nearest_k + 1).distances[:, -1]


def _rows(columns: Tensor) -> int:
    """Return how many rows of a table of distances are in memory at a time."""
    return min(MAX_ROWS, max(1, MAX_DISTANCES // len(columns)))
