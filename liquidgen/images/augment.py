"""Variants of training images: moved, scaled and rotated a little, by random amounts."""

import math

import numpy as np
from PIL import Image

# standard deviations of the normal distributions that the amounts are drawn from, cut off at CUT
SHIFT = 0.04  # share of a side
SCALE = 0.08  # of the logarithm
ROTATION = math.radians(6)
CUT = 3

# a side of the border is of one color if this share of its pixels is so near its median, in levels
PLAIN_SHARE = 0.6
PLAIN_LEVELS = 8


def augmented(image: Image.Image, count: int, generator: np.random.Generator) -> list[Image.Image]:
    """Draw variants of an image, of the same size.

    Beyond each side goes on the color of that side, such as the white around a drawing, or where it
    is not of one color the image's reflection.

    After Karras et al. 2022 (EDM, appendix F.2), with smaller amounts: a model that is not told how
    an image was transformed draws transformed images.

    Args:
        image: RGB, larger than what the variants are resized to, so that they stay sharp.
        count: How many variants.
        generator: Where the amounts are drawn.
    """
    # in every direction half of the longer side: what lies outside of it is black, and out of reach
    # of a rotation even of a wide image
    padded = _padded(np.asarray(image), margin=max(image.size) // 2)
    return [_transformed(padded, image.size, generator) for _ in range(count)]


def _padded(pixels: np.ndarray, margin: int) -> Image.Image:
    padded = np.pad(pixels, ((margin, margin), (margin, margin), (0, 0)), mode="reflect")
    sides = (
        (pixels[0], padded[:margin]),
        (pixels[-1], padded[-margin:]),
        (pixels[:, 0], padded[:, :margin]),
        (pixels[:, -1], padded[:, -margin:]),
    )
    for side, beyond in sides:
        color = np.median(side, axis=0)
        is_near = (abs(side - color) <= PLAIN_LEVELS).all(1)
        if is_near.mean() >= PLAIN_SHARE:
            beyond[:] = color
    return Image.fromarray(padded)


def _transformed(
    padded: Image.Image, size: tuple[int, int], generator: np.random.Generator
) -> Image.Image:
    width, height = size
    normals = generator.standard_normal(4).clip(-CUT, CUT)
    shift_x, shift_y, log_scale, angle = normals * (SHIFT, SHIFT, SCALE, ROTATION)
    # from a pixel of the result to its place in the padded image, about the centers of both
    along, across = (f(angle) / math.exp(log_scale) for f in (math.cos, math.sin))
    x, y = width * (0.5 + shift_x), height * (0.5 + shift_y)
    to_source = (
        *(along, across, padded.width / 2 - along * x - across * y),
        *(-across, along, padded.height / 2 + across * x - along * y),
    )
    return padded.transform(size, Image.Transform.AFFINE, to_source, Image.Resampling.BICUBIC)
