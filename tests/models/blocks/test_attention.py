"""The attention block: DiT's mathematics, its start as the identity, and its memory layout."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from liquidgen.config.params import load_params
from liquidgen.config.settings import validate
from liquidgen.models.blocks.attention import Block, Settings
from liquidgen.utils.errors import UserError

SHIPPED = load_params().raw["blocks"]["attention"]
WIDTH, COND, HEAD = 48, 24, 16


def new_block(**changes):
    """Return a block as initialized."""
    torch.manual_seed(0)
    return Block(WIDTH, COND, Settings(**SHIPPED | {"head_dim": HEAD} | changes))


def moved_block():
    """Return a block whose gates, shifts and scales are not 0."""
    block = new_block()
    nn.init.normal_(block.modulation.weight, std=0.2)
    return block


def inputs(rows=5, columns=6):
    torch.manual_seed(1)
    return torch.randn(2, WIDTH, rows, columns), torch.randn(2, COND)


def test_new_block_is_the_identity():
    x, cond = inputs()
    assert torch.equal(new_block()(x, cond), x)


def test_linear_layers_start_as_in_dit():
    block = new_block()
    layers = {name: one for name, one in block.named_modules() if isinstance(one, nn.Linear)}
    assert not layers.pop("modulation").weight.any()
    assert len(layers) == 4
    for name, layer in layers.items():
        largest = math.sqrt(6 / sum(layer.weight.shape))
        assert 0.98 * largest < layer.weight.abs().max() <= largest, name
        assert not layer.bias.any(), name


def test_block_is_the_formula_of_the_paper():
    """Written out token by token, with a softmax."""
    block = moved_block()
    x, cond = inputs()
    shift_1, scale_1, gate_1, shift_2, scale_2, gate_2 = block.modulation(cond)[:, None].chunk(6, 2)
    tokens = x.flatten(2).mT  # (B, N, D)

    h = F.layer_norm(tokens, (WIDTH,), eps=1e-6) * (1 + scale_1) + shift_1
    query, key, value = block.attention.query_key_value(h).chunk(3, dim=2)
    read = []
    for start in range(0, WIDTH, HEAD):
        head = slice(start, start + HEAD)
        scores = query[:, :, head] @ key[:, :, head].mT / math.sqrt(HEAD)  # (B, N, N)
        read.append(scores.softmax(dim=2) @ value[:, :, head])
    tokens = tokens + gate_1 * block.attention.mix(torch.cat(read, dim=2))

    h = F.layer_norm(tokens, (WIDTH,), eps=1e-6) * (1 + scale_2) + shift_2
    tokens = tokens + gate_2 * block.mlp.contract(F.gelu(block.mlp.expand(h)))

    expected = tokens.mT.unflatten(2, x.shape[2:])
    torch.testing.assert_close(block(x, cond), expected)
    assert (expected - x).abs().mean() > 0.1  # and not the identity


def test_one_pixel_reaches_every_other():
    block = moved_block()
    x, cond = inputs()
    other = x.clone()
    other[:, :, 0, 0] = torch.randn(WIDTH)  # not a shift alone, which LayerNorm would remove
    assert ((block(x, cond) - block(other, cond)).abs().amax(dim=1) > 1e-4).all()


def test_every_parameter_and_the_input_have_gradients():
    block = moved_block()
    x, cond = (tensor.requires_grad_() for tensor in inputs())
    block(x, cond).square().mean().backward()
    for name, tensor in [*block.named_parameters(), ("x", x), ("cond", cond)]:
        assert tensor.grad.isfinite().all(), name
        assert tensor.grad.any(), name


def test_memory_layout_is_kept_and_changes_nothing():
    block = moved_block()
    x, cond = inputs()
    expected = block(x, cond)
    last = block(x.contiguous(memory_format=torch.channels_last), cond)
    assert last.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(last, expected)


def test_width_that_no_heads_fill_is_refused():
    with pytest.raises(UserError, match=r"width 48: must be a multiple of .*\.head_dim 32") as no:
        new_block(head_dim=32)
    assert "\n" not in str(no.value)


@pytest.mark.parametrize("change", [{"head_dim": 10**9}, {"mlp_ratio": 10**9}, {"head_dim": 0}])
def test_endless_and_empty_sizes_are_refused(change):
    [key] = change
    with pytest.raises(UserError, match=rf"^blocks\.attention\.{key}: input should be"):
        validate(Settings, SHIPPED | change, "blocks.attention")
