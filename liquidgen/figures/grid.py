"""Conversion of pixels to PIL images, and grids of images with one row per class."""

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

GAP = 2  # px between images
FONT_SIZE = 14  # px


def to_images(pixels: Tensor) -> list[Image.Image]:
    """Convert pixels (B, 3, H, W) in [-1, 1] to PIL images."""
    levels = ((pixels + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
    return [Image.fromarray(image) for image in np.asarray(levels.permute(0, 2, 3, 1).cpu())]


def class_grid(rows: Sequence[Sequence[Image.Image]], names: Sequence[str]) -> Image.Image:
    """Draw one row of images per class.

    Args:
        rows: Images of each class, all of one size; rows may differ in length.
        names: Names of the classes, drawn left of the rows; empty: no names.
    """
    font = ImageFont.load_default(FONT_SIZE)
    margin = max((int(font.getlength(name)) + 3 * GAP for name in names), default=0)
    side = rows[0][0].width + GAP
    height = max(side, FONT_SIZE + GAP)
    columns = max(map(len, rows))
    grid = Image.new("RGB", (margin + columns * side - GAP, len(rows) * height - GAP), "white")
    draw = ImageDraw.Draw(grid)
    for i, row in enumerate(rows):
        for j, image in enumerate(row):
            grid.paste(image, (margin + j * side, i * height))
        if names:
            middle = i * height + (side - GAP) // 2
            draw.text((margin - 2 * GAP, middle), names[i], "black", font, anchor="rm")
    return grid
