"""Every score stands beside its floor and its ceiling, and says whether it can tell them apart."""

import pytest
import torch

from liquidgen.config.settings import EvaluateSettings
from liquidgen.stages.evaluate.feature_extraction import LabeledFeatures
from liquidgen.stages.evaluate.intervals import tells_noise
from liquidgen.stages.evaluate.result import Scores
from liquidgen.stages.evaluate.scores import (
    Computed,
    EvaluationFeatures,
    ProbeResult,
    class_scores,
    compute_scores,
    copied_shares,
)

SETTINGS = EvaluateSettings(
    features="builtin", batch_size=64, nearest_k=3, kid_subset_size=30, kid_subsets=5, seed=0
)
NAMES = ("fd", "fd_pca", "kid", "precision", "recall", "density", "coverage")
SIZE = 16  # of features
PROTOCOL = {
    "num_compared": 100,
    "num_features": SIZE,
    "num_reference": 150,
    "feature_network": "builtin",
    "image_size": 64,
    "sampling": {"solver": "euler", "num_inference_steps": 50, "guidance_scale": 1.5, "seed": 0},
}
INTERVALS = {
    "fd": (1.5, 2.5),
    "fd_pca": (1, 2),
    "kid": (-0.1, 0.1),
    "copied_share": (0.0, 0.1),
}


def drawn(count: int, seed: int, scale: float = 1, shift: float = 0) -> LabeledFeatures:
    features = torch.randn(count, SIZE, generator=torch.Generator().manual_seed(seed))
    return seen(scale * features + shift)


def seen(features: torch.Tensor) -> LabeledFeatures:
    """Return features (N, D) of images, which have these features as their pixels, too."""
    thumbnails = (128 + 25 * features).round().clamp(0, 255).to(torch.uint8)
    return LabeledFeatures(features, torch.zeros(len(features), dtype=torch.int64), thumbnails)


def scored(noise: LabeledFeatures, samples: LabeledFeatures) -> dict[str, float]:
    holdout = drawn(150, 1)
    features = EvaluationFeatures(samples, holdout, holdout, drawn(400, 2), noise, 0)
    return compute_scores(features.comparisons(), SETTINGS).values


def blind(values: dict[str, float]) -> set[str]:
    return {name for name in NAMES if not values[f"{name}_tells_noise"]}


@pytest.fixture(scope="module")
def far() -> dict[str, float]:
    """Scores beside noise that is far from all images; the samples are new images."""
    copies = {"copied_share": 0.0, "reconstruction_copied_share": 0.0}
    return scored(drawn(100, 3, shift=5), samples=drawn(100, 4)) | copies


def test_every_score_has_floor_and_ceiling(far):
    for name in NAMES:
        assert {name, f"train_{name}", f"noise_{name}", f"{name}_tells_noise"} <= far.keys()


def test_new_images_score_as_real_images_do(far):
    for name in ("precision", "recall", "coverage"):
        assert far[name] == pytest.approx(far[f"train_{name}"], abs=0.15)
    assert far["fd"] == pytest.approx(far["train_fd"], rel=0.3)


def test_far_noise_is_told_by_every_score(far):
    assert blind(far) == set()
    assert (far["noise_precision"], far["noise_coverage"]) == (0, 0)


def test_noise_like_images_is_told_by_no_score():
    assert blind(scored(drawn(100, 3), samples=drawn(100, 4))) == set(NAMES)


def test_noise_between_images_is_not_told_by_precision():
    # images of less variety, such as grey ones, are near many images
    values = scored(drawn(100, 3, scale=0.3), samples=drawn(100, 4))
    assert values["noise_precision"] > values["train_precision"]
    assert {"precision", "density"} <= blind(values)
    assert not {"fd", "recall"} & blind(values)


@pytest.mark.parametrize("count", [2, 3, 4, 7])
def test_few_images_are_scored(count: int):
    few = SETTINGS.model_copy(update={"nearest_k": 1, "kid_subset_size": 2})
    sets = [drawn(count, seed) for seed in range(4)]
    features = EvaluationFeatures(sets[0], sets[1], sets[1], sets[2], sets[3], 0)
    values, intervals = compute_scores(features.comparisons(), few)
    assert values["precision_tells_noise"] in (0, 1)
    assert all(low <= values[name] <= high for name, (low, high) in intervals.items())


def test_margin_is_in_deviations():
    halves = {"real_halves": [0.9, 0.92], "noise_halves": [0.8, 0.82]}
    assert tells_noise(0.91, 0.81, **halves, lower_is_better=False)
    assert not tells_noise(0.91, 0.81, **halves, lower_is_better=True)
    assert not tells_noise(0.91, 0.86, **halves, lower_is_better=False)
    assert not tells_noise(1, 1, [1, 1], [1, 1], lower_is_better=False)


def results(samples: float, holdout: float, noise: float) -> dict[str, ProbeResult]:
    """Return results in which these shares of 200 images are right."""
    shares = {"samples": samples, "holdout": holdout, "scrambled": 0, "noise": noise}
    labels = torch.zeros(200, dtype=torch.int64)
    return {name: ProbeResult(torch.arange(200) < 200 * s, labels) for name, s in shares.items()}


def test_class_accuracy_has_floor_and_ceiling():
    values = class_scores(results(0.7, 0.9, 0.1), seed=0).values
    assert values["class_accuracy"] == pytest.approx(0.7)
    assert values["probe_accuracy"] == pytest.approx(0.9)
    assert values["noise_class_accuracy"] == pytest.approx(0.1)
    assert values["class_accuracy_tells_noise"] == 1
    assert class_scores(results(0.7, 0.5, 0.45), seed=0).values["class_accuracy_tells_noise"] == 0


def test_summary_names_scores_that_cannot_tell_noise(far):
    assert "cannot tell" not in Scores(far, INTERVALS, PROTOCOL).summary()
    values = far | {"precision_tells_noise": 0.0, "density_tells_noise": 0.0}
    summary = Scores(values, INTERVALS, PROTOCOL).summary()
    assert "with 100 images these cannot tell noise from real images: precision, density" in summary
    assert f"noise {far['noise_fd']:.4g}" in summary


def test_summary_begins_with_a_score_that_tells_noise(far):
    summary = Scores(far | {"fd_tells_noise": 0.0}, INTERVALS, PROTOCOL).summary()
    assert summary.startswith("kid ")
    assert "), fd " in summary


def test_summary_of_fewer_images_than_features_has_the_distance_of_components(far):
    assert Scores(far, INTERVALS, PROTOCOL).summary().startswith("fd ")
    few = PROTOCOL | {"num_features": 100}
    assert Scores(far, INTERVALS, few).summary().startswith("fd pca ")


def test_summary_shows_intervals_and_numbers_of_images(far):
    summary = Scores(far, INTERVALS, PROTOCOL).summary()
    assert f"fd {far['fd']:.4g} [1.5, 2.5] (real images" in summary
    assert "100 samples against 150 held-out images, features of builtin" in summary


@pytest.mark.parametrize(
    ("network", "start", "features"),
    [
        ("inception", "FID ", "(torch-fidelity Inception, "),
        ("efficientnet_lite0", "FD ", "(EfficientNet-Lite0 features, "),
        ("own", "FD ", "(features of own, "),
    ],
)
def test_only_distances_of_inception_are_quoted_as_fid(far, network, start, features):
    first, second = Scores(far, INTERVALS, PROTOCOL | {"feature_network": network}).quotes()
    assert first.startswith(f"{start}{far['fd']:.4g} [1.5, 2.5] {features}")
    assert second.startswith("KID " if start == "FID " else "Kernel distance ")
    rest = "100 samples against 150 held-out images of 64 px, 50 euler steps, guidance 1.5, seed 0)"
    assert first.endswith(rest)
    assert second.endswith(rest)


def test_quote_names_half_precision(far):
    sampling = PROTOCOL["sampling"] | {"dtype": "bfloat16"}
    for quote in Scores(far, INTERVALS, PROTOCOL | {"sampling": sampling}).quotes():
        assert quote.endswith(", seed 0, bfloat16)")


def copied(samples: torch.Tensor, train: LabeledFeatures) -> Computed:
    new = drawn(150, 1)
    features = EvaluationFeatures(seen(samples), new, new, train, drawn(len(samples), 3), 0)
    return copied_shares(features.neighbors())


@pytest.mark.parametrize(("count", "has_copies"), [(0, False), (10, True)])
def test_copies_are_counted_and_named(far, count, has_copies):
    train, new = drawn(400, 2), drawn(100, 4).features
    values, intervals = copied(torch.cat([train.features[:count] + 0.01, new[count:]]), train)
    assert values["copied_share"] == pytest.approx(count / 100)
    assert values["reconstruction_copied_share"] == 0
    scores = Scores(far | values, INTERVALS | intervals, PROTOCOL)
    assert scores.has_copies == has_copies
    assert ("some samples copy training images" in scores.summary()) == has_copies


def test_copies_of_images_that_are_there_several_times_are_counted():
    """Such as with a mirrored one of each, and an image that was found twice."""
    once = drawn(200, 2).features
    often = torch.cat([once + 0.1 * drawn(200, seed).features for seed in range(4)])
    assert copied(once[:50], seen(often)).values["copied_share"] == 1


def test_samples_that_are_near_many_images_are_no_copies():
    """Images that lack detail are nearer to training images than new images are."""
    assert copied(drawn(100, 4, scale=0.3).features, drawn(400, 2)).values["copied_share"] == 0
