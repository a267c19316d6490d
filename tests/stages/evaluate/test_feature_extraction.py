"""Features do not depend on the batches, which shrink when memory runs out."""

import numpy as np
import pytest
import torch
from helpers.memory import use_memory_for
from helpers.small_data import prepared, procedural

from liquidgen.images.raw import RawDataset
from liquidgen.stages.evaluate.class_probe import scramble
from liquidgen.stages.evaluate.feature_extraction import FeatureExtractor
from liquidgen.utils.errors import UserError

SIDE = 64


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Raw images and latents of a small dataset."""
    dataset = procedural(num_images=40, render_size=SIDE, holdout_fraction=0.25)
    return prepared(tmp_path_factory.mktemp("small"), dataset, SIDE)


def extractor(folder, batch_size):
    return FeatureExtractor(
        folder / "latents", network="builtin", batch_size=batch_size, device="cpu"
    )


def extracted(folder, batch_size, limit=1000):
    """Extract features of all kinds; more than `limit` images at once are too many for memory."""
    source = extractor(folder, batch_size)
    network = source.network

    def limited(pixels):
        use_memory_for(len(pixels), limit)
        return network(pixels)

    limited.num_features = network.num_features
    source.network = limited

    def change(latents, numbers):
        return scramble(latents, numbers.tolist(), seed=0)

    indices = np.arange(10)
    return (
        source.from_files(RawDataset(folder / "raw"), "holdout"),
        source.from_latents(source.train, indices, "training images"),
        source.from_noise(10, seed=0),
        source.from_changed_latents(source.train, indices, "scrambled", change),
    )


@pytest.fixture(scope="module")
def expected(folder):
    return extracted(folder, 64)


def assert_equal(left, right):
    for one, other in zip(left, right, strict=True):
        assert torch.equal(one.labels, other.labels)
        assert torch.allclose(one.features, other.features, atol=1e-3)


def test_batch_size_does_not_change_features(folder, expected):
    assert_equal(extracted(folder, 3), expected)


def test_batches_halve_when_memory_runs_out(folder, expected, caplog):
    assert_equal(extracted(folder, 64, limit=4), expected)
    assert (
        "evaluate.batch_size: not enough memory for batches of 10; going on with 5" in caplog.text
    )


def test_too_little_memory_for_one_image_names_the_key(folder):
    with pytest.raises(UserError, match=r"evaluate\.batch_size: not enough memory"):
        extracted(folder, 2, limit=0)


def test_noise_has_statistics_of_latents_but_its_own_seed(folder, expected):
    source = extractor(folder, 64)
    longer, other = source.from_noise(12, seed=0), source.from_noise(10, seed=1)
    noise = expected[2]
    assert torch.allclose(longer.features[:10], noise.features, atol=1e-3)
    assert not torch.allclose(other.features, noise.features, atol=0.1)
    assert noise.labels.tolist() == list(range(10))  # ten classes


def test_progress_bars_are_named(folder, capsys):
    extracted(folder, 64)
    written = capsys.readouterr().err
    for name in ("holdout", "training images", "noise", "scrambled"):
        assert f"evaluate: {name}: " in written
