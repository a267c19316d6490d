"""Variants of training images: moved, scaled and rotated a little, by random amounts."""

import math

import numpy as np
from PIL import Image

# standard deviations of the normal distributions that the amounts are drawn from, cut off at CUT
SHIFT = 0.04  # share of a side
SCALE = 0.08  # of the logarithm
ROTATION = math.radians(6)
CUT = 3

# A side has one color if a share of its pixels, at least this, is near the median of the side.
PLAIN_SHARE = 0.6
PLAIN_LEVELS = 8  # largest distance from the median, of 255


def augmented(image: Image.Image, count: int, generator: np.random.Generator) -> list[Image.Image]:
    """Draw variants of an image, of the same size.

    Outside the image, a side of one color is continued, such as the white around a drawing, and
    the image is reflected at the others.

    After Karras et al. 2022 (EDM, appendix F.2), with smaller amounts: a model that is not told how
    an image was transformed draws transformed images.

    Args:
        image: RGB, larger than what the variants are resized to, so that they stay sharp.
        count: How many variants.
        generator: Where the amounts are drawn.
    """
    # the margin is half of the longer side: even the rotation of a wide image stays inside it
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
    a, b = (f(angle) / math.exp(log_scale) for f in (math.cos, math.sin))
    x, y = width * (0.5 + shift_x), height * (0.5 + shift_y)
    to_source = (
        *(a, b, padded.width / 2 - a * x - b * y),
        *(-b, a, padded.height / 2 + b * x - a * y),
    )
    return padded.transform(size, Image.Transform.AFFINE, to_source, Image.Resampling.BICUBIC)
