"""Conversion of pixels to PIL images, and grids of images with one row per class."""

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from liquidgen.figures.names import FONT_SIZE, default_font, display_names, pil_font

GAP = 2  # px between images
MAX_HEIGHT = 16_000  # px, of a grid; many programs open nothing higher than 16,384


def to_images(pixels: Tensor) -> list[Image.Image]:
    """Convert pixels (B, 3, H, W) in [-1, 1] to PIL images."""
    levels = to_levels(pixels).permute(0, 2, 3, 1).cpu()
    return [Image.fromarray(image) for image in np.asarray(levels)]


def to_levels(pixels: Tensor) -> Tensor:
    """Convert pixels in [-1, 1] to uint8."""
    return ((pixels + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)


def to_pixels(levels: Tensor) -> Tensor:
    """Convert uint8 to pixels in [-1, 1]."""
    return levels.float() / 127.5 - 1


def max_rows(image_height: int) -> int:
    """Return how many rows of images a grid can have."""
    return max(1, MAX_HEIGHT // _row_height(image_height))


def class_grid(rows: Sequence[Sequence[Image.Image]], names: Sequence[str]) -> Image.Image:
    """Draw one row of images per class.

    Args:
        rows: Images of each class, all of one size; rows may differ in length. Rows beyond
            `max_rows` are left out.
        names: Names of the classes, drawn left of the rows; empty: no names. How many classes have
            no row stands below the last one.
    """
    row_height = _row_height(rows[0][0].height)
    rows = rows[: max_rows(rows[0][0].height)]
    labels = display_names(names[: len(rows)])
    without_row = len(names) - len(labels)
    margin = max((int(pil_font(f).getlength(t)) + 3 * GAP for t, f in labels), default=0)
    side = rows[0][0].width + GAP
    width = margin + max(map(len, rows)) * side - GAP
    height = len(rows) * row_height - GAP
    footer = f"and {without_row} more" if without_row else ""
    font = pil_font(default_font())
    if footer:
        width = max(width, int(font.getlength(footer)) + 2 * GAP)
    grid = Image.new("RGB", (width, height + bool(footer) * (FONT_SIZE + 3 * GAP)), "white")
    draw = ImageDraw.Draw(grid)
    for i, row in enumerate(rows):
        for j, image in enumerate(row):
            grid.paste(image, (margin + j * side, i * row_height))
    for i, (text, path) in enumerate(labels):
        middle = i * row_height + rows[0][0].height // 2
        draw.text((margin - 2 * GAP, middle), text, "black", pil_font(path), anchor="rm")
    draw.text((GAP, height + GAP), footer, "black", font)
    return grid


def _row_height(image_height: int) -> int:
    return max(image_height, FONT_SIZE) + GAP
