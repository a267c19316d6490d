"""Augmented variants: an image moved, scaled and rotated, with nothing foreign at its edges."""

import math

import numpy as np
import pytest
from helpers.small_data import png_of
from PIL import Image

from liquidgen.images.decode import decode
from liquidgen.images.transform import ImageTransform

TRANSFORM = ImageTransform(
    image_size="32x48", crop="center", crop_seed=0, max_upscale=1.5, max_pixels=10_000_000
)
RED, GREEN, WHITE, BLACK = (255, 0, 0), (0, 255, 0), (255, 255, 255), (0, 0, 0)


def variants(image, count=8, index=(0, 0), **changes):
    transform = TRANSFORM.model_copy(update=changes)
    decoded = decode(png_of(image), transform, index, count)
    assert (decoded.pixels == decode(png_of(image), transform, index).pixels).all()
    return np.array(decoded.variants).astype(int)


def bar(width, height, background=GREEN, size=(96, 64)):
    """Draw a red rectangle in the middle of a background."""
    image = Image.new("RGB", size, background)
    left, top = (size[0] - width) // 2, (size[1] - height) // 2
    image.paste(RED, (left, top, left + width, top + height))
    return image


def red_points(pixels):
    """Return the places (N, 2) of red pixels, x and y."""
    return np.argwhere((pixels[..., 0] > 128) & (pixels[..., 1] < 128))[:, ::-1]


def angle(pixels):
    """Return the direction of the longer axis of the red pixels, in degrees from -90 to 90."""
    points = red_points(pixels)
    x, y = np.linalg.svd(points - points.mean(0), full_matrices=False)[2][0]
    return math.degrees(math.atan(y / x)) if x else 90.0


def test_same_image_has_same_variants():
    image = bar(24, 24)
    first = variants(image, 3)
    assert (variants(image, 3) == first).all()
    assert (variants(image, 8)[:3] == first).all()  # more of them begin with the same
    assert (variants(image, 3, index=(0, 1)) != first).any()
    assert (variants(image, 3, crop_seed=1) != first).any()


def test_places_and_sizes_vary_as_documented():
    found = [red_points(one) for one in variants(bar(24, 24), 400)]  # 12 px of 48 x 32
    places = np.array([points.mean(0) + 0.5 for points in found]) / (48, 32)
    assert places.mean(0) == pytest.approx([0.5, 0.5], abs=0.01)
    assert places.std(0) == pytest.approx([0.04, 0.04], rel=0.15)
    areas = np.array([len(points) for points in found])
    assert np.median(areas) == pytest.approx(144, rel=0.05)
    assert np.log(areas).std() == pytest.approx(2 * 0.08, rel=0.2)


def test_angles_vary_as_documented():
    lying, standing = (variants(bar(*sides), 200) for sides in ((60, 8), (8, 44)))
    angles = np.array([angle(one) for one in lying])
    assert angles.mean() == pytest.approx(0, abs=1)
    assert angles.std() == pytest.approx(6, rel=0.15)
    # one variant turns all directions alike: it is no shear
    others = np.array([angle(one) for one in standing])
    turned = (others - 90 - angles + 90) % 180 - 90
    assert abs(turned).max() < 3


def dark_runs(line):
    """Count the stretches of dark pixels along a line (N, 3)."""
    dark = line.mean(-1) < 128
    return int(dark[0]) + int((dark[1:] & ~dark[:-1]).sum())


@pytest.mark.parametrize("mode", ["RGB", "RGBA"], ids=["opaque", "transparent"])
def test_plain_background_goes_on(mode):
    """A bar near the edge would be there a second time in its reflection."""
    image = Image.new(mode, (96, 64), WHITE if mode == "RGB" else (0, 0, 0, 0))
    image.paste(BLACK, (4, 8, 10, 56))
    assert {dark_runs(one[16]) for one in variants(image, 100)} <= {0, 1}


def test_side_of_an_object_that_is_cut_off_is_reflected():
    """As of a bust: white goes on above and beside it, and it goes on below."""
    image = Image.new("RGB", (96, 64), WHITE)
    image.paste(BLACK, (8, 24, 88, 64))
    found = variants(image, 100)
    assert (found[:, -1, 24] < 128).all()
    assert (found[:, 0] > 200).all()


def test_photograph_is_reflected_at_its_edges():
    """Neither black nor white comes in."""
    image = Image.fromarray(np.random.default_rng(0).integers(60, 200, (64, 96, 3), np.uint8))
    found = variants(image.resize((12, 8)).resize((96, 64)), 50)
    assert found.min() > 30
    assert found.max() < 230


def test_thin_bars_of_a_letterbox_go_on_in_white():
    image = Image.new("RGB", (100, 92), BLACK)
    for one in variants(image, 100, image_size=48, crop="letterbox"):
        assert dark_runs(one[:, 24]) == 1


@pytest.mark.parametrize("size", ["16x64", "64x16"])
def test_corners_of_long_images_are_filled(size):
    width, height = (int(side) for side in reversed(size.split("x")))
    found = variants(Image.new("RGB", (2 * width, 2 * height), WHITE), 500, image_size=size)
    assert (found == 255).all()
