"""The serpentine: its order, and the scan along it against a plain 1-D convolution."""

import pytest
import torch
from torch.nn import functional as F

from liquidgen.models.layers.liquid import GatedDepthwiseStimulusConv
from liquidgen.models.layers.zigzag import ZigzagScan1D, serpentine_order

CPU = torch.device("cpu")
GRIDS = [(h, w) for h in range(1, 8) for w in range(1, 8)] + [(2, 33), (31, 8), (64, 64)]
KERNELS = [1, 3, 7, 31]


def path(height, width):
    """Return the serpentine as (row, column), computed in another way."""
    rows = []
    for row in range(height):
        columns = range(width) if row % 2 == 0 else reversed(range(width))
        rows += [(row, column) for column in columns]
    return rows


def bare_scan(width, kernel_size):
    """Return a scan that does not mix channels."""
    torch.manual_seed(0)
    scan = ZigzagScan1D(width, kernel_size)
    with torch.no_grad():
        scan.mix.weight.copy_(torch.eye(width))
        scan.mix.bias.zero_()
    return scan


def touched(module, height, width, place):
    """Return the positions of the input that the output at `place` depends on."""
    x = torch.randn(1, 2, height, width, requires_grad=True)
    module(x)[0, :, *place].sum().backward()
    return {tuple(position) for position in x.grad[0].abs().sum(0).nonzero().tolist()}


@pytest.mark.parametrize(("height", "width"), GRIDS)
def test_order_visits_every_position_once(height, width):
    order = serpentine_order(height, width, CPU)
    assert order.sort().values.tolist() == list(range(height * width))


@pytest.mark.parametrize(("height", "width"), GRIDS)
def test_order_steps_to_image_neighbors(height, width):
    order = serpentine_order(height, width, CPU)
    places = torch.stack([order // width, order % width])
    assert (places.diff(dim=1).abs().sum(0) == 1).all()


@pytest.mark.parametrize(("height", "width"), GRIDS)
def test_order_is_its_own_inverse(height, width):
    order = serpentine_order(height, width, CPU)
    assert order[order].tolist() == list(range(height * width))


def test_order_of_a_small_grid():
    assert serpentine_order(3, 3, CPU).tolist() == [0, 1, 2, 5, 4, 3, 6, 7, 8]


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("kernel_size", KERNELS)
@pytest.mark.parametrize(("height", "width"), [(1, 1), (4, 4), (3, 5), (8, 2)])
def test_scan_is_a_convolution_along_the_serpentine(height, width, kernel_size, layout):
    scan = bare_scan(6, kernel_size)
    x = torch.randn(2, 6, height, width).contiguous(memory_format=layout)
    places = path(height, width)
    line = torch.stack([x[:, :, row, column] for row, column in places], dim=2)
    weight, bias = scan.scan.weight[:, :, 0], scan.scan.bias
    expected = F.conv1d(line, weight, bias, padding=kernel_size // 2, groups=6)
    result = scan(x)
    for i, (row, column) in enumerate(places):
        torch.testing.assert_close(result[:, :, row, column], expected[:, :, i])


def test_scan_mixes_channels_at_each_position():
    torch.manual_seed(0)
    scan = ZigzagScan1D(6, 3)
    bare = bare_scan(6, 3)
    bare.scan.load_state_dict(scan.scan.state_dict())
    x = torch.randn(2, 6, 4, 5)
    expected = F.conv2d(bare(x), scan.mix.weight[:, :, None, None], scan.mix.bias)
    torch.testing.assert_close(scan(x), expected)


@pytest.mark.parametrize("kernel_size", KERNELS)
def test_scan_window_is_exact(kernel_size):
    places = path(6, 7)
    reach = kernel_size // 2
    for i, place in enumerate(places):
        expected = set(places[max(0, i - reach) : i + reach + 1])
        assert touched(bare_scan(2, kernel_size), 6, 7, place) == expected


def test_scan_continues_below_at_the_end_of_a_row():
    assert touched(bare_scan(2, 3), 4, 5, (0, 4)) == {(0, 3), (0, 4), (1, 4)}


@pytest.mark.parametrize("kernel_size", [1, 3, 5])
def test_local_stimulus_window_is_exact(kernel_size):
    reach = kernel_size // 2
    window = {(r, c) for r in range(9) for c in range(9) if max(abs(r - 4), abs(c - 4)) <= reach}
    assert touched(GatedDepthwiseStimulusConv(2, kernel_size), 9, 9, (4, 4)) == window
