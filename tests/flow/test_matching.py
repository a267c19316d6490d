"""Flow matching: path, loss, guidance, label dropout and time sampling, by known answers."""

import pytest
import torch

from liquidgen.flow.matching import (
    drop_labels,
    flow_loss,
    guided,
    interpolate,
)
from liquidgen.flow.time_sampling import TIME_SAMPLINGS, logit_normal

SHAPE = (5, 4, 3, 2)
NULL = 7


@pytest.fixture
def pair():
    torch.manual_seed(0)
    return 2 * torch.randn(SHAPE) + 1, torch.randn(SHAPE)  # latents, noise


def wide(t):
    return t[:, None, None, None]


def by_label(x_t, t, labels):
    """Return a velocity from which the arguments can be read."""
    return wide(labels.float() + 10 * t) + x_t


def test_interpolate_ends_are_data_and_noise(pair):
    latents, noise = pair
    assert torch.equal(interpolate(latents, noise, torch.zeros(5)), latents)
    assert torch.equal(interpolate(latents, noise, torch.ones(5)), noise)


def test_interpolate_uses_one_time_per_sample():
    latents = torch.full(SHAPE, 8.0)
    noise = torch.full(SHAPE, -4.0)
    t = torch.tensor([0, 0.25, 0.5, 0.75, 1])
    assert torch.equal(interpolate(latents, noise, t)[:, 0, 0, 0], torch.tensor([8, 5, 2, -1, -4]))


def test_loss_is_zero_at_derivative_of_path(pair):
    latents, noise = (tensor.double() for tensor in pair)
    t = torch.rand(5).double() * 0.9
    step = 1e-6

    def derivative(x_t, t, labels):
        return (interpolate(latents, noise, t + step) - x_t) / step

    assert flow_loss(derivative, latents, None, noise, t).max() < 1e-12


def test_loss_is_mean_square_per_sample(pair):
    latents, noise = pair
    errors = torch.tensor([0.0, 1, 2, 3, 4])

    def off(x_t, t, labels):
        return noise - latents + wide(errors)

    loss = flow_loss(off, latents, None, noise, torch.rand(5))
    torch.testing.assert_close(loss, errors**2)


def test_loss_of_half_precision_velocity_is_fp32(pair):
    latents, noise = pair
    loss = flow_loss(lambda *_: (noise - latents).half(), latents, None, noise, torch.rand(5))
    assert loss.dtype == torch.float32


def test_loss_calls_model_at_x_t_t_and_label(pair):
    latents, noise = pair
    t = torch.rand(5)
    labels = torch.arange(5)
    expected = by_label(interpolate(latents, noise, t), t, labels) - (noise - latents)
    loss = flow_loss(by_label, latents, labels, noise, t)
    torch.testing.assert_close(loss, expected.square().mean(dim=(1, 2, 3)))


@pytest.mark.parametrize("rate", [0.0, 0.1, 0.5, 1.0])
def test_labels_are_dropped_at_their_rate(rate):
    count = 100_000
    labels = torch.arange(count) % NULL
    dropped = drop_labels(labels, NULL, rate, torch.rand(count, generator=torch.manual_seed(0)))
    lost = dropped == NULL
    assert lost.double().mean().item() == pytest.approx(rate, abs=4 * 0.5 / count**0.5)
    assert torch.equal(dropped[~lost], labels[~lost])
    assert dropped.dtype == torch.int64


def test_label_is_dropped_below_the_rate():
    dropped = drop_labels(torch.tensor([1, 2, 3]), NULL, 0.25, torch.tensor([0.2, 0.25, 0.0]))
    assert dropped.tolist() == [NULL, 2, NULL]


@pytest.mark.parametrize("name", TIME_SAMPLINGS)
def test_times_are_in_range_and_monotonic(name):
    uniforms = torch.linspace(0, 1, 1001)
    t = TIME_SAMPLINGS[name](uniforms)
    assert t.min() >= 0
    assert t.max() <= 1
    assert (t.diff() >= 0).all()


def test_logit_normal_times_have_normal_logits():
    count = 10_000
    t = logit_normal((torch.arange(count).double() + 0.5) / count)
    std, mean = torch.std_mean(torch.logit(t))
    assert mean.item() == pytest.approx(0, abs=1e-6)
    assert std.item() == pytest.approx(1, abs=1e-3)
    # sigmoid(-1) and sigmoid(1): one deviation to each side holds 68.27%
    assert ((t > 0.26894) & (t < 0.73106)).double().mean().item() == pytest.approx(0.6827, abs=1e-3)


def counting(velocity):
    """Return the velocity, and a list of the batch sizes of its calls."""
    sizes = []

    def counted(x_t, t, labels):
        sizes.append(len(x_t))
        return velocity(x_t, t, labels)

    return counted, sizes


def test_guidance_of_1_is_the_model_itself(pair):
    model, sizes = counting(by_label)
    velocity = guided(model, NULL, 1.0)
    t = torch.rand(5)
    labels = torch.arange(5)
    assert torch.equal(velocity(pair[0], t, labels), by_label(pair[0], t, labels))
    assert sizes == [5]


@pytest.mark.parametrize("scale", [1.25, 2.0, 7.5])
def test_guidance_extrapolates_away_from_null(pair, scale):
    model, sizes = counting(by_label)
    t = torch.rand(5)
    labels = torch.arange(5)
    conditional = by_label(pair[0], t, labels)
    null = by_label(pair[0], t, torch.full((5,), NULL))
    expected = null + scale * (conditional - null)
    torch.testing.assert_close(guided(model, NULL, scale)(pair[0], t, labels), expected)
    assert sizes == [10]  # both in one call


def test_guidance_of_weights_is_that_of_their_labels(pair):
    def by_weights(x_t, t, labels):
        return by_label(x_t, t, labels @ torch.arange(NULL + 1.0))

    t = torch.rand(5)
    weights = torch.eye(NULL + 1)[:5]
    expected = guided(by_label, NULL, 4.0)(pair[0], t, torch.arange(5))
    torch.testing.assert_close(guided(by_weights, NULL, 4.0)(pair[0], t, weights), expected)


def test_guidance_of_null_label_changes_nothing(pair):
    t = torch.rand(5)
    labels = torch.full((5,), NULL)
    expected = by_label(pair[0], t, labels)
    torch.testing.assert_close(guided(by_label, NULL, 4.0)(pair[0], t, labels), expected)
