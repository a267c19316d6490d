"""Augmented variants: an image moved, scaled and rotated, with nothing foreign at its edges."""

import numpy as np
import pytest
from helpers.small_data import png_of
from PIL import Image

from liquidgen.images.decode import decode
from liquidgen.images.transform import ImageTransform

TRANSFORM = ImageTransform(
    image_size="32x48", crop="center", crop_seed=0, max_upscale=1.5, max_pixels=10_000_000
)
RED, GREEN, WHITE = (255, 0, 0), (0, 255, 0), (255, 255, 255)


def variants(image, count=8, index=(0, 0), **changes):
    decoded = decode(png_of(image), TRANSFORM.model_copy(update=changes), index, count)
    assert (decoded.pixels == decode(png_of(image), TRANSFORM, index).pixels).all() or changes
    return np.array(decoded.variants).astype(int)


def square(background, mode="RGB", size=(96, 64), side=24):
    """Draw a red square in the middle of a background."""
    image = Image.new(mode, size, background)
    left, top = (size[0] - side) // 2, (size[1] - side) // 2
    image.paste(RED, (left, top, left + side, top + side))
    return image


def red(pixels):
    return (pixels[..., 0] > 128) & (pixels[..., 1] < 128)


def test_same_image_has_same_variants():
    first = variants(square(GREEN), 3)
    assert (variants(square(GREEN), 3) == first).all()
    assert (variants(square(GREEN), 8)[:3] == first).all()  # more of them begin with the same
    assert (variants(square(GREEN), 3, index=(0, 1)) != first).any()
    assert (variants(square(GREEN), 3, crop_seed=1) != first).any()


def test_amounts_are_those_of_the_distributions():
    """The square has 12 px of 48 x 32; its place, area and angle vary as documented."""
    found = [np.argwhere(red(one)) for one in variants(square(GREEN), 400)]
    places = np.array([points.mean(0) for points in found]) / (32, 48)
    assert places.mean(0) == pytest.approx([0.484, 0.49], abs=0.02)  # centers of pixels
    assert places.std(0) == pytest.approx([0.04, 0.04], rel=0.15)
    areas = np.array([len(points) for points in found])
    assert np.log(areas).std() == pytest.approx(2 * 0.08, rel=0.2)
    # the corner that is lowest lies beside the middle where the square is rotated
    assert np.median(areas) == pytest.approx(144, rel=0.05)


@pytest.mark.parametrize(
    "image",
    [
        square(GREEN),
        square((0, 255, 0, 255), "RGBA"),
        square(GREEN, size=(96, 64), side=64),  # the square touches the border
    ],
    ids=["opaque", "alpha", "touching"],
)
def test_plain_background_goes_on(image):
    """What is no square is background, also where it comes from outside the image."""
    for one in variants(image, 20):
        assert one[..., 2].max() < 40  # neither white nor black came in
        assert (one[..., :2].sum(-1) > 200).all()


def test_transparent_image_ends_in_white():
    for one in variants(square((0, 0, 0, 0), "RGBA"), 20):
        assert (one[[0, -1]] == 255).all()


def test_photograph_is_reflected_at_its_edges():
    """Left and right differ, so that no color is the border's; neither black nor white comes in."""
    image = Image.new("RGB", (96, 64), (200, 80, 80))
    image.paste((80, 80, 200), (48, 0, 96, 64))
    found = variants(image, 50)
    assert found.min() >= 60
    assert found.max() <= 220
    assert all((one[:, 0, 0] > 150).all() for one in found)  # red goes on, to the left
    assert all((one[:, -1, 2] > 150).all() for one in found)


def test_bars_of_a_letterbox_go_on_in_white():
    image = Image.new("RGB", (32, 64), RED)
    for one in variants(image, 20, crop="letterbox"):
        assert (one[:, [0, -1]] == 255).all()


def test_image_without_variants_has_none():
    assert decode(png_of(square(GREEN)), TRANSFORM, (0, 0)).variants == ()
