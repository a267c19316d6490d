"""Depthwise convolution: the same numbers as PyTorch's own, forward and backward."""

import pytest
import torch
from torch.nn import functional as F

from liquidgen.models.layers.depthwise import DepthwiseConv2d

FORMATS = (torch.contiguous_format, torch.channels_last)


@pytest.mark.parametrize("memory_format", FORMATS, ids=["contiguous", "channels_last"])
@pytest.mark.parametrize("kernel_size", [1, 5, (1, 7), (3, 5)])
@pytest.mark.parametrize("side", [(8, 8), (3, 11), (1, 64)])
def test_gradients_are_those_of_autograd(side, kernel_size, memory_format):
    torch.manual_seed(0)
    convolution = DepthwiseConv2d(6, kernel_size).double().to(memory_format=memory_format)
    x = torch.randn(3, 6, *side, dtype=torch.double).to(memory_format=memory_format)
    assert torch.autograd.gradcheck(
        lambda x, weight, bias: torch.func.functional_call(
            convolution, {"weight": weight, "bias": bias}, (x,)
        ),
        (x.requires_grad_(), *convolution.parameters()),
        fast_mode=True,
    )


def test_forward_is_equal_without_gradients():
    convolution = DepthwiseConv2d(6, 5)
    x = torch.randn(3, 6, 8, 8)
    with torch.no_grad():
        expected = convolution(x)
    assert torch.equal(convolution(x), expected)


def test_autocast_gradients_are_close_to_fp32():
    torch.manual_seed(0)
    convolution = DepthwiseConv2d(6, 5)
    x, target = torch.randn(2, 3, 6, 8, 8)
    gradients = []
    for enabled in (False, True):
        convolution.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            y = convolution(x)
        assert y.dtype == (torch.bfloat16 if enabled else torch.float32)
        F.mse_loss(y.float(), target).backward()
        gradients.append([weight.grad for weight in convolution.parameters()])
    for full, half in zip(*gradients, strict=True):
        assert half.dtype == torch.float32
        torch.testing.assert_close(half, full, rtol=0.05, atol=0.02)


def test_frozen_weights_pass_gradients_on():
    convolution = DepthwiseConv2d(6, 5).requires_grad_(False)
    x = torch.randn(3, 6, 8, 8, requires_grad=True)
    convolution(x).sum().backward()
    expected = torch.autograd.grad(
        F.conv2d(x, convolution.weight, convolution.bias, padding=2, groups=6).sum(), x
    )
    torch.testing.assert_close(x.grad, *expected)
