"""Variants of training images: moved, scaled and rotated a little, by random amounts."""

import math

import numpy as np
from PIL import Image

# standard deviations of the normal distributions that the amounts are drawn from
SHIFT = 0.04  # share of a side
SCALE = 0.08  # of the logarithm
ROTATION = math.radians(6)

# a border is of one color if this share of its pixels is so near its median, in levels
PLAIN_SHARE = 0.6
PLAIN_LEVELS = 8


def augmented(image: Image.Image, count: int, generator: np.random.Generator) -> list[Image.Image]:
    """Draw variants of an image, of the same size.

    What comes from outside the image is the color of its border, such as the white around a
    drawing, or where that is not of one color the image's reflection.

    The transformations are the affine ones of Karras et al. 2022 (EDM, appendix F.2), but smaller:
    a model that is not told how an image was transformed draws transformed images.

    Args:
        image: RGB, larger than what the variants are resized to, so that they stay sharp.
        count: How many variants.
        generator: Where the amounts are drawn.
    """
    # a margin of half a side: what lies outside of it is black, and out of reach
    across, down = image.width // 2, image.height // 2
    margins = ((down, down), (across, across), (0, 0))
    pixels = np.asarray(image)
    padded = np.pad(pixels, margins, mode="reflect")
    if (color := _border_color(pixels)) is not None:
        padded[:] = color
        padded[down : down + image.height, across : across + image.width] = pixels
    return [_transformed(Image.fromarray(padded), image.size, generator) for _ in range(count)]


def _border_color(pixels: np.ndarray) -> np.ndarray | None:
    """Return the color of the border of uint8 (H, W, 3), or None if it is not of one."""
    border = np.concatenate([pixels[0], pixels[-1], pixels[1:-1, 0], pixels[1:-1, -1]])
    color = np.median(border, axis=0)
    is_near = (abs(border - color) <= PLAIN_LEVELS).all(1)
    return color.astype(np.uint8) if is_near.mean() >= PLAIN_SHARE else None


def _transformed(
    padded: Image.Image, size: tuple[int, int], generator: np.random.Generator
) -> Image.Image:
    width, height = size
    shift_x, shift_y, log_scale, turn = generator.normal(0, (SHIFT, SHIFT, SCALE, ROTATION))
    # from a pixel of the result to its place in the padded image, about the centers of both
    cosine, sine = (f(turn) / math.exp(log_scale) for f in (math.cos, math.sin))
    x, y = width * (0.5 + shift_x), height * (0.5 + shift_y)
    to_source = (
        *(cosine, sine, padded.width / 2 - cosine * x - sine * y),
        *(-sine, cosine, padded.height / 2 + sine * x - cosine * y),
    )
    return padded.transform(size, Image.Transform.AFFINE, to_source, Image.Resampling.BICUBIC)
