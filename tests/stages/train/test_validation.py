"""Validation loss: the same noise and times at every measurement."""

import math
from pathlib import Path
from unittest.mock import Mock

import pytest
import torch
from helpers.small_data import prepared, procedural

from liquidgen.compute.distributed import World
from liquidgen.config.params import load_params
from liquidgen.flow.time_sampling import TIME_SAMPLINGS
from liquidgen.latents.shards import LatentDataset
from liquidgen.models.liquidnet import LiquidNet
from liquidgen.stages.train.learner import Learner
from liquidgen.stages.train.validation import TIME_BINS, Validation

PARAMS = load_params(Path("params.yaml"))


@pytest.fixture(scope="module")
def holdout(tmp_path_factory):
    dataset = procedural(num_images=120, render_size=32, holdout_fraction=0.5)
    folder = prepared(tmp_path_factory.mktemp("latents"), dataset, 32)
    return LatentDataset(folder / "latents", "holdout")


def never():
    """Not interrupted."""


def learner(holdout, **changes):
    torch.manual_seed(0)
    channels, side, _ = holdout.contract.latent_shape
    network = LiquidNet(
        in_channels=channels,
        sample_size=side,
        num_classes=holdout.num_classes,
        width=32,
        depth=2,
        cond_dim=32,
        patch_size=1,
        block=PARAMS.selectors.block,
        block_settings=PARAMS.block,
    )
    settings = {"precision": "fp32", "batch_size": 16} | changes
    return Learner(network, PARAMS.train.model_copy(update=settings), torch.device("cpu"))


def train(one, holdout, steps):
    latents, labels = holdout.batch(range(16))
    for _ in range(steps):
        one.train_step(holdout.contract.normalize(latents), labels)


def test_untrained_network_has_loss_of_zero_velocity(holdout):
    one = learner(holdout)
    measured = Validation(holdout).measure(one, never)
    # of normalized latents and noise, each with variance one; few latents vary around it
    assert measured["validation_loss"] == pytest.approx(2, abs=0.2)


def test_same_weights_have_the_same_loss(holdout):
    one = learner(holdout)
    validation = Validation(holdout)
    first = validation.measure(one, never)
    train(one, holdout, 3)
    later = validation.measure(one, never)
    assert later != first
    assert validation.measure(one, never) == later
    assert Validation(holdout).measure(one, never) == later  # as after an interruption


def test_batch_size_does_not_change_the_loss(holdout):
    losses = [
        Validation(holdout).measure(one, never)["validation_loss"]
        for one in (learner(holdout, batch_size=size) for size in (1, 16, 1000))
    ]
    assert losses == pytest.approx([losses[0]] * 3, rel=1e-6)


class Apart(World):
    """One of several processes, without the others: sums are its own part."""

    def sum(self, tensor):
        return tensor


@pytest.mark.parametrize(("size", "batch_size"), [(7, 7), (8, 16), (61, 61)])
def test_unequal_shards_have_the_loss_of_one_process(holdout, size, batch_size):
    """All processes exchange equally often."""
    one = learner(holdout, batch_size=batch_size)
    validation = Validation(holdout)
    losses = []
    exchanges = set()
    whole = validation.measure(one, never)["validation_loss"]
    for rank in range(size):
        one.world = Apart(rank, size)
        check = Mock()
        losses.append(validation.measure(one, check)["validation_loss"])
        exchanges.add(check.call_count)
    assert len(holdout) % size
    assert exchanges == {math.ceil(len(holdout) / batch_size)}
    assert sum(losses) == pytest.approx(whole, rel=1e-6)


@pytest.mark.parametrize("time_sampling", TIME_SAMPLINGS)
def test_bins_average_to_the_whole(holdout, time_sampling):
    one = learner(holdout, time_sampling=time_sampling)
    train(one, holdout, 3)
    validation = Validation(holdout)
    measured = validation.measure(one, never)
    counts = torch.histc(validation.t, TIME_BINS, 0, 1).tolist()
    bins = [measured[f"validation_loss_t{i / 4:.2f}-{(i + 1) / 4:.2f}"] for i in range(TIME_BINS)]
    assert len(measured) == 1 + TIME_BINS
    whole = sum(n * value for n, value in zip(counts, bins, strict=True)) / len(holdout)
    assert whole == pytest.approx(measured["validation_loss"], rel=1e-5)


def test_times_are_stratified(holdout):
    validation = Validation(holdout)
    count = len(holdout)
    expected = (torch.arange(count) + 0.5) / count
    torch.testing.assert_close(validation.t.sort().values, expected)
    assert not torch.equal(validation.t, expected)  # but not in the order of the latents


def test_validation_uses_averaged_weights(holdout):
    one = learner(holdout)
    train(one, holdout, 5)
    validation = Validation(holdout)
    before = {name: value.clone() for name, value in one.state()[0].items()}
    averaged = validation.measure(one, never)
    assert all(torch.equal(value, before[name]) for name, value in one.state()[0].items())
    assert one.model.training
    with one.averaged() as model:
        weights = {name: value.clone() for name, value in model.state_dict().items()}
    other = learner(holdout)
    other.model.load_state_dict(weights)
    everything = (validation.latents, validation.labels, validation.noise, validation.t)
    loss = other.losses(*everything).mean().item()
    assert averaged["validation_loss"] == pytest.approx(loss, rel=1e-5)
