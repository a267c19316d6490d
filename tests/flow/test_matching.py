"""Flow matching: the path, its loss, guidance, label dropout and the times, by known answers."""

from itertools import pairwise

import pytest
import torch

from liquidgen.flow.matching import (
    drop_labels,
    flow_loss,
    guided,
    integrate,
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
    """A velocity that tells its arguments."""
    return wide(labels.float() + 10 * t) + x_t


def test_time_0_is_the_data_and_time_1_the_noise(pair):
    latents, noise = pair
    assert torch.equal(interpolate(latents, noise, torch.zeros(5)), latents)
    assert torch.equal(interpolate(latents, noise, torch.ones(5)), noise)


def test_a_quarter_of_the_way_is_known_and_each_sample_has_its_time():
    latents, noise = torch.full(SHAPE, 8.0), torch.full(SHAPE, -4.0)
    t = torch.tensor([0, 0.25, 0.5, 0.75, 1])
    assert torch.equal(interpolate(latents, noise, t)[:, 0, 0, 0], torch.tensor([8, 5, 2, -1, -4]))


def test_the_loss_is_zero_at_the_derivative_of_the_path_alone(pair):
    latents, noise = (tensor.double() for tensor in pair)
    t, step = torch.rand(5).double() * 0.9, 1e-6

    def derivative(x_t, t, labels):
        return (interpolate(latents, noise, t + step) - x_t) / step

    assert flow_loss(derivative, latents, None, noise, t).max() < 1e-12


def test_the_loss_is_a_mean_square_for_each_sample(pair):
    latents, noise = pair
    errors = torch.tensor([0.0, 1, 2, 3, 4])

    def off(x_t, t, labels):
        return noise - latents + wide(errors)

    loss = flow_loss(off, latents, None, noise, torch.rand(5))
    torch.testing.assert_close(loss, errors**2)


def test_the_loss_of_a_half_precision_velocity_is_taken_in_full_precision(pair):
    latents, noise = pair
    loss = flow_loss(lambda *_: (noise - latents).half(), latents, None, noise, torch.rand(5))
    assert loss.dtype == torch.float32


def test_the_model_is_asked_at_the_interpolated_place_time_and_label(pair):
    latents, noise = pair
    t, labels = torch.rand(5), torch.arange(5)
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


def test_a_label_is_dropped_below_the_rate():
    dropped = drop_labels(torch.tensor([1, 2, 3]), NULL, 0.25, torch.tensor([0.2, 0.25, 0.0]))
    assert dropped.tolist() == [NULL, 2, NULL]


@pytest.mark.parametrize("name", TIME_SAMPLINGS)
def test_times_lie_in_their_range_and_keep_the_order_of_the_uniforms(name):
    uniforms = torch.linspace(0, 1, 1001)
    t = TIME_SAMPLINGS[name](uniforms)
    assert t.min() >= 0
    assert t.max() <= 1
    assert (t.diff() >= 0).all()


def test_logit_normal_times_have_standard_normal_logits():
    count = 10_000
    t = logit_normal((torch.arange(count).double() + 0.5) / count)
    std, mean = torch.std_mean(torch.logit(t))
    assert mean.item() == pytest.approx(0, abs=1e-6)
    assert std.item() == pytest.approx(1, abs=1e-3)
    # sigmoid(-1) and sigmoid(1): one deviation to each side holds 68.27%
    assert ((t > 0.26894) & (t < 0.73106)).double().mean().item() == pytest.approx(0.6827, abs=1e-3)


def counting(velocity):
    """The velocity, and the batch sizes of its calls."""
    sizes = []

    def counted(x_t, t, labels):
        sizes.append(len(x_t))
        return velocity(x_t, t, labels)

    return counted, sizes


def test_guidance_of_1_is_the_model_itself(pair):
    model, sizes = counting(by_label)
    velocity = guided(model, NULL, 1.0)
    t, labels = torch.rand(5), torch.arange(5)
    assert torch.equal(velocity(pair[0], t, labels), by_label(pair[0], t, labels))
    assert sizes == [5]


@pytest.mark.parametrize("scale", [1.25, 2.0, 7.5])
def test_guidance_goes_beyond_the_conditional_away_from_the_null(pair, scale):
    model, sizes = counting(by_label)
    t, labels = torch.rand(5), torch.arange(5)
    conditional = by_label(pair[0], t, labels)
    null = by_label(pair[0], t, torch.full((5,), NULL))
    expected = null + scale * (conditional - null)
    torch.testing.assert_close(guided(model, NULL, scale)(pair[0], t, labels), expected)
    assert sizes == [10]  # both in one call


def test_guidance_changes_nothing_for_the_null_label(pair):
    t, labels = torch.rand(5), torch.full((5,), NULL)
    expected = by_label(pair[0], t, labels)
    torch.testing.assert_close(guided(by_label, NULL, 4.0)(pair[0], t, labels), expected)


@pytest.mark.parametrize("num_steps", [1, 2, 7])
def test_the_flow_to_one_point_ends_in_it(pair, num_steps):
    latents, noise = pair
    velocity, sizes = counting(lambda x_t, t, labels: (x_t - latents) / wide(t))
    torch.testing.assert_close(integrate(velocity, noise, None, num_steps), latents)
    assert sizes == [5] * num_steps


def test_the_flow_to_a_gaussian_ends_in_it_the_closer_the_more_steps(pair):
    mean, std, noise = 1.5, 0.4, pair[1]

    def velocity(x_t, t, labels):
        t = wide(t)
        variance = (1 - t) ** 2 * std**2 + t**2
        return (t - (1 - t) * std**2) / variance * (x_t - (1 - t) * mean) - mean

    errors = [
        (integrate(velocity, noise, None, steps) - (mean + std * noise)).abs().max().item()
        for steps in (50, 100, 200)
    ]
    assert errors[-1] < 0.01
    for error, half in pairwise(errors):
        assert error / half == pytest.approx(2, abs=0.1)
