"""Muon: matrices move along orthogonal directions, everything else as with AdamW."""

import math

import pytest
import torch
from torch import nn

from liquidgen.stages.train.optimizers import LARGEST, ORTHOGONALIZE, Muon, is_matrix, orthogonalize

OPTIONS = {"lr": 1e-2, "betas": (0.9, 0.99)}


def random(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("shape", [(48, 48), (40, 160)])
def test_orthogonalized_matrices_keep_their_directions(shape):
    matrices = random(3, *shape)
    result = orthogonalize(matrices)
    u, _, v = torch.linalg.svd(matrices, full_matrices=False)
    # U^T X V is diagonal, and its diagonal is near 1 for all but the smallest singular values
    rotated = u.mT @ result @ v.mT
    diagonal = rotated.diagonal(dim1=1, dim2=2)
    assert (rotated - torch.diag_embed(diagonal)).abs().max() < 1e-3
    assert diagonal[:, : min(shape) // 2].min() > 0.6
    assert diagonal.max() < 1.3


def test_a_matrix_does_not_depend_on_the_others():
    matrices = random(3, 40, 64)
    assert torch.allclose(orthogonalize(matrices)[1:2], orthogonalize(matrices[1:2]), atol=1e-5)


def test_linear_and_dense_weights_are_matrices():
    assert is_matrix(nn.Linear(64, 32).weight)
    assert is_matrix(nn.Conv2d(64, 32, 1).weight)
    assert not is_matrix(nn.Conv2d(64, 32, 3).weight)
    assert not is_matrix(nn.Linear(64, 11).weight)
    assert not is_matrix(nn.Conv2d(64, 64, 5, groups=64).weight)
    assert not is_matrix(nn.Linear(64, 32).bias)


def stepped(optimizer_of, steps=3):
    """Return the weights of a small network after some steps."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(48, 40), nn.GELU(), nn.Linear(40, 48))
    optimizer = optimizer_of(network)
    for step in range(steps):
        network(random(256, 48, seed=step)).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
    return dict(network.named_parameters())


def groups(network, orthogonalize):
    weights = [network[0].weight, network[2].weight]
    others = [network[0].bias, network[2].bias]
    return [
        {"params": weights, "weight_decay": 0.1, ORTHOGONALIZE: orthogonalize},
        {"params": others, "weight_decay": 0.0, ORTHOGONALIZE: False},
    ]


def test_groups_without_matrices_take_the_steps_of_adamw():
    ours = stepped(lambda network: Muon(groups(network, False), **OPTIONS))
    theirs = stepped(lambda network: torch.optim.AdamW(groups(network, False), **OPTIONS))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_first_step_of_a_matrix_is_orthogonal_and_as_large_as_that_of_adamw():
    before = stepped(lambda network: Muon(groups(network, True), **OPTIONS), steps=0)
    after = stepped(lambda network: Muon(groups(network, True), **OPTIONS), steps=1)
    for name in ("0.weight", "2.weight"):
        step = (after[name] - before[name] * (1 - 0.1 * OPTIONS["lr"])).detach() / OPTIONS["lr"]
        values = torch.linalg.svdvals(step)
        assert values[len(values) // 4] > 0.4 * values[0]
        assert 0.1 < step.square().mean().sqrt() < 0.3


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("shape", [(250, 300), (300, 250), (48, 64)])
def test_blocks_of_a_convolution_are_orthogonal(shape, layout):
    weight = nn.Parameter(random(*shape, 1, 1).to(memory_format=layout))
    before = weight.detach().clone()
    weight.grad = random(*shape, 1, 1, seed=1).to(memory_format=layout)
    Muon([{"params": [weight], ORTHOGONALIZE: True, "weight_decay": 0.0}], lr=1.0).step()
    step = (weight.detach() - before)[:, :, 0, 0]
    wide = step if shape[0] <= shape[1] else step.mT
    for block in wide.tensor_split(math.ceil(len(wide) / LARGEST)):
        values = torch.linalg.svdvals(block)
        assert values[len(values) // 2] > 0.5 * values[0]
