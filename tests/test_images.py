"""Image files of every kind become square sRGB pixels, or are refused for a reason."""

import io
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image, ImageCms

from liquidgen.data import images
from liquidgen.data.images import Refused, decode
from liquidgen.data.procedural import draw

REASONS = {
    images.UNDECODABLE,
    images.TRUNCATED,
    images.TOO_MANY_PIXELS,
    images.TOO_SMALL,
    images.UNSUPPORTED_MODE,
}
RED, BLUE, WHITE = (255, 0, 0), (0, 0, 255), (255, 255, 255)


def save(image, kind="PNG", **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def pixels(data, **changes):
    return decoded(data, **changes).pixels


def decoded(data, **changes):
    limits = {"crop": "center", "max_upscale": 1.5, "max_pixels": 10_000_000, "seed": (0, 0)}
    return decode(data, **{"image_size": 32, **limits, **changes})


def outcome(data):
    try:
        return "pixels" if pixels(data).shape == (32, 32, 3) else "another shape"
    except Refused as refused:
        return str(refused)


def halves(left, right, size=(64, 64), mode="RGB"):
    """A picture of two colours, side by side."""
    image = Image.new(mode, size, left)
    image.paste(Image.new(mode, (size[0] // 2, size[1]), right), (size[0] // 2, 0))
    return image


def near(found, colour, tolerance=3):
    return np.abs(np.asarray(found, int) - np.array(colour)).max() <= tolerance


def test_a_picture_of_the_right_size_keeps_every_pixel():
    picture = draw("hills", 32, 0)
    assert np.array_equal(pixels(save(picture)), np.asarray(picture))


def test_shrinking_averages_instead_of_skipping_pixels():
    stripes = np.zeros((512, 512, 3), np.uint8)
    stripes[:, ::2] = 255
    assert near(pixels(save(Image.fromarray(stripes))), (127, 127, 127), 4)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "TGA"])
def test_every_format_shows_the_same_picture(kind):
    found = pixels(save(halves(RED, BLUE), kind))
    assert found.shape == (32, 32, 3)
    assert found.dtype == np.uint8
    assert near(found[:, :12], RED, 12)
    assert near(found[:, 20:], BLUE, 12)


@pytest.mark.parametrize("mode", ["1", "L", "P", "LA", "RGBA", "CMYK", "YCbCr"])
def test_every_mode_shows_the_same_picture(mode):
    grey = halves((0, 0, 0), WHITE).convert("L")
    image = grey.convert("RGB").convert(mode) if mode in ("CMYK", "YCbCr") else grey.convert(mode)
    found = pixels(save(image, "TIFF" if mode in ("CMYK", "YCbCr") else "PNG"))
    assert near(found[:, :12], (0, 0, 0), 8)
    assert near(found[:, 20:], WHITE, 8)


def test_sixteen_bits_are_scaled_and_not_clipped():
    ramp = np.linspace(0, 65535, 64).astype(np.uint16)[None].repeat(64, 0)
    found = pixels(save(Image.fromarray(ramp)), image_size=64)[0, :, 0]
    assert near(found, np.linspace(0, 255, 64), 1)


def test_transparency_lies_on_white():
    image = halves((255, 0, 0, 0), (0, 0, 255, 255), mode="RGBA")
    found = pixels(save(image))
    assert near(found[:, :12], WHITE)
    assert near(found[:, 20:], BLUE)


def test_a_transparent_palette_colour_lies_on_white():
    image = halves(RED, BLUE).quantize(2)
    transparent = image.getpixel((0, 0))
    found = pixels(save(image, transparency=transparent))
    assert near(found[:, :12], WHITE)
    assert near(found[:, 20:], BLUE)


def test_a_rotated_photograph_is_turned_upright():
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter, clockwise
    found = pixels(save(halves(RED, BLUE), "JPEG", exif=exif))
    assert near(found[:12], RED, 12)
    assert near(found[20:], BLUE, 12)


def test_an_embedded_profile_is_converted_to_srgb():
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB"))
    lab = ImageCms.profileToProfile(
        halves(RED, BLUE), ImageCms.createProfile("sRGB"), profile, outputMode="LAB"
    )
    with pytest.raises(Refused, match=images.UNSUPPORTED_MODE):
        decoded(save(lab, "TIFF"))
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    found = decoded(save(halves(RED, BLUE), icc_profile=srgb))
    assert found.notes == ()
    assert near(found.pixels[:, :12], RED)


def test_a_useless_profile_is_ignored_and_noted():
    found = decoded(save(halves(RED, BLUE), icc_profile=b"no profile at all"))
    assert found.notes == (images.PROFILE_IGNORED,)
    assert near(found.pixels[:, :12], RED)


def test_of_an_animation_the_first_frame_is_taken_and_noted():
    data = save(
        Image.new("RGB", (64, 64), RED),
        "GIF",
        save_all=True,
        append_images=[Image.new("RGB", (64, 64), BLUE)],
    )
    found = decoded(data)
    assert found.notes == (images.ANIMATED,)
    assert near(found.pixels, RED)


def test_the_middle_square_is_cut_from_an_oblong_picture():
    image = Image.new("RGB", (128, 32), RED)
    image.paste(BLUE, (48, 0, 80, 32))
    assert near(pixels(save(image)), BLUE)


def test_a_random_crop_depends_on_its_seed_alone():
    data = save(draw("hills", 128, 0).crop((0, 0, 128, 64)))
    crops = [pixels(data, crop="random", seed=(0, i)) for i in range(8)]
    again = [pixels(data, crop="random", seed=(0, i)) for i in range(8)]
    assert all(np.array_equal(a, b) for a, b in zip(crops, again, strict=True))
    assert len({crop.tobytes() for crop in crops}) > 4


def test_slight_enlarging_is_noted_and_more_is_refused():
    data = save(draw("hills", 24, 0))
    assert decoded(data, image_size=32).notes == (images.UPSCALED,)
    with pytest.raises(Refused, match=images.TOO_SMALL):
        decoded(data, image_size=48)


def test_a_bomb_is_refused_by_its_header():
    bomb = save(Image.new("1", (20_000, 20_000)))
    assert len(bomb) < 100_000
    with pytest.raises(Refused, match=images.TOO_MANY_PIXELS):
        decoded(bomb)


def test_the_limit_of_pixels_counts_alone():
    data = save(Image.new("1", (10_000, 10_000)))  # Pillow would warn
    assert decoded(data, max_pixels=100_000_000).pixels.shape == (32, 32, 3)


@pytest.mark.parametrize("data", [b"no image", b"", b"%!PS-Adobe-3.0 EPSF-3.0\n"])
def test_what_is_no_image_is_undecodable(data):
    with pytest.raises(Refused, match=images.UNDECODABLE):
        decoded(data)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF"])
def test_a_cut_file_is_refused(kind):
    data = save(draw("marble", 64, 0), kind)
    with pytest.raises(Refused):
        decoded(data[: len(data) // 2])


def test_a_cut_after_the_header_counts_as_truncated():
    data = save(draw("marble", 64, 0))
    with pytest.raises(Refused, match=images.TRUNCATED):
        decoded(data[: len(data) // 2])


def test_damaged_bytes_give_pixels_or_a_reason_but_never_another_error():
    rng = np.random.default_rng(0)
    for kind in ("PNG", "JPEG", "WEBP", "GIF", "TIFF"):
        whole = np.frombuffer(save(draw("bouquet", 48, 0), kind), np.uint8)
        for _ in range(40):
            damaged = whole.copy()
            places = rng.integers(len(damaged), size=4)
            damaged[places] = rng.integers(256, size=4)
            assert outcome(damaged.tobytes()) in {"pixels", *REASONS}


def test_threads_decode_the_same_and_leave_pillows_limits_as_they_were():
    before = (Image.MAX_IMAGE_PIXELS, list(warnings.filters))
    large = save(Image.new("1", (10_000, 10_000)))  # Pillow would warn, which is an error here
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    small = [save(draw(style, 64, 0), icc_profile=profile) for style in ("hills", "marble")]
    data = [large, *small * 20, large]
    alone = [pixels(one, max_pixels=100_000_000) for one in data]
    with ThreadPoolExecutor(4) as threads:
        found = threads.map(lambda one: pixels(one, max_pixels=100_000_000), data)
        assert all(map(np.array_equal, found, alone))
    assert (Image.MAX_IMAGE_PIXELS, list(warnings.filters)) == before
