"""Conversion of pixels to images, and the layout of the class grid."""

import numpy as np
import pytest
import torch
from PIL import Image

from liquidgen.figures.grid import GAP, class_grid, to_images
from liquidgen.figures.names import FONT_SIZE, MAX_WIDTH

SIDE = 24


def plain(level, side=SIDE):
    return Image.new("RGB", (side, side), (level, 0, 255 - level))


def test_to_images_restores_all_levels():
    levels = np.arange(768, dtype=np.int64).reshape(16, 16, 3) % 256
    pixels = torch.from_numpy(levels).permute(2, 0, 1)[None].float() / 127.5 - 1
    (image,) = to_images(pixels)
    assert np.array_equal(np.asarray(image), levels)


@pytest.mark.parametrize(("value", "level"), [(-1, 0), (1, 255), (-1.5, 0), (1.5, 255), (0, 128)])
def test_to_images_rounds_and_clamps(value, level):
    (image,) = to_images(torch.full((1, 3, 4, 6), float(value)))
    assert image.size == (6, 4)
    assert image.getcolors() == [(24, (level,) * 3)]


def test_grid_places_rows_and_columns():
    rows = [[plain(10 * i + j) for j in range(3)] for i in range(4)]
    grid = class_grid(rows, ())
    step = SIDE + GAP
    assert grid.size == (3 * step - GAP, 4 * step - GAP)
    for i, row in enumerate(rows):
        for j, image in enumerate(row):
            box = (j * step, i * step, j * step + SIDE, i * step + SIDE)
            assert grid.crop(box).tobytes() == image.tobytes()


def test_grid_names_are_left_of_rows():
    rows = [[plain(10 * i + j) for j in range(2)] for i in range(3)]
    bare, named = class_grid(rows, ()), class_grid(rows, ("hills", "", "a much longer name"))
    margin = named.width - bare.width
    assert named.crop((margin, 0, *named.size)).tobytes() == bare.tobytes()
    step, white = SIDE + GAP, {(255, 255, 255)}
    for i, name in enumerate(("hills", "", "a much longer name")):
        beside = named.crop((0, i * step, margin, i * step + SIDE))
        assert ({color for _, color in beside.getcolors()} != white) == bool(name)
        edge = named.crop((0, i * step, 1, i * step + SIDE))
        assert {color for _, color in edge.getcolors()} == white  # no name is truncated


def test_grid_pads_short_row_with_white():
    grid = class_grid([[plain(1), plain(2)], [plain(3)]], ())
    last = grid.crop((SIDE, SIDE + GAP, *grid.size))
    assert last.getcolors() == [(last.width * last.height, (255, 255, 255))]


def test_grid_of_tiny_images_keeps_text_lines_apart():
    rows = [[plain(i, side=4)] for i in range(3)]
    grid = class_grid(rows, ("one", "two", "three"))
    step = (grid.height + GAP) // 3
    assert step >= 14
    for i, (image,) in enumerate(rows):
        box = (grid.width - 4, i * step, grid.width, i * step + 4)
        assert grid.crop(box).tobytes() == image.tobytes()


@pytest.mark.parametrize("count", [1000, 10_000])
def test_grid_of_many_classes_is_bounded(count):
    grid = class_grid([[plain(1)]] * count, [f"class {i}" for i in range(count)])
    assert grid.height <= 16_384
    footer = grid.crop((0, grid.height - GAP - FONT_SIZE, grid.width, grid.height))
    assert len(footer.getcolors()) > 1  # how many are left out


def test_grid_of_long_name_is_bounded():
    grid = class_grid([[plain(1)]], ["a" * 5000])
    assert grid.width < MAX_WIDTH + SIDE + 20
