"""Decoding of image files: every format, mode, orientation and profile, and every refusal."""

import io
import struct
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image, ImageCms

from liquidgen.images.decode import (
    ANIMATED,
    LETTERBOXED,
    ONE_COLOR,
    PROFILE_IGNORED,
    TOO_MANY_PIXELS,
    TOO_SMALL,
    TRUNCATED,
    UNDECODABLE,
    UNSUPPORTED_MODE,
    UPSCALED,
    Refused,
    decode,
)
from liquidgen.images.transform import ImageTransform
from liquidgen.stages.download.procedural import draw

REASONS = {UNDECODABLE, TRUNCATED, TOO_MANY_PIXELS, TOO_SMALL, UNSUPPORTED_MODE}
TRANSFORM = ImageTransform(
    image_size=32, crop="center", crop_seed=0, max_upscale=1.5, max_pixels=10_000_000
)
RED, BLUE, WHITE = (255, 0, 0), (0, 0, 255), (255, 255, 255)


def save(image, kind="PNG", **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def pixels(data, index=(0, 0), **changes):
    return decoded(data, index, **changes).pixels


def decoded(data, index=(0, 0), **changes):
    return decode(data, TRANSFORM.model_copy(update=changes), index)


def outcome(data):
    try:
        return "pixels" if pixels(data).shape == (32, 32, 3) else "another shape"
    except Refused as refused:
        return str(refused)


def halves(left, right, size=(64, 64), mode="RGB"):
    """Create an image of two colors side by side."""
    image = Image.new(mode, size, left)
    image.paste(Image.new(mode, (size[0] // 2, size[1]), right), (size[0] // 2, 0))
    return image


def near(found, color, tolerance=3):
    return np.abs(np.asarray(found, int) - np.array(color)).max() <= tolerance


def test_image_of_target_size_keeps_every_pixel():
    picture = draw("hills", 32, 0)
    assert np.array_equal(pixels(save(picture)), np.asarray(picture))


def test_downscaling_averages_pixels():
    stripes = np.zeros((512, 512, 3), np.uint8)
    stripes[:, ::2] = 255
    assert near(pixels(save(Image.fromarray(stripes))), (127, 127, 127), 4)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "TGA"])
def test_formats_decode_to_same_image(kind):
    found = pixels(save(halves(RED, BLUE), kind))
    assert found.shape == (32, 32, 3)
    assert found.dtype == np.uint8
    assert near(found[:, :12], RED, 12)
    assert near(found[:, 20:], BLUE, 12)


@pytest.mark.parametrize("mode", ["1", "L", "P", "LA", "RGBA", "CMYK", "YCbCr"])
def test_modes_decode_to_same_image(mode):
    gray = halves((0, 0, 0), WHITE).convert("L")
    image = gray.convert("RGB").convert(mode) if mode in ("CMYK", "YCbCr") else gray.convert(mode)
    # Pillow 12 cannot read YCbCr without compression
    options = {"compression": "tiff_lzw"} if mode == "YCbCr" else {}
    found = pixels(save(image, "TIFF" if mode in ("CMYK", "YCbCr") else "PNG", **options))
    assert near(found[:, :12], (0, 0, 0), 8)
    assert near(found[:, 20:], WHITE, 8)


def test_16_bit_values_are_scaled_not_clipped():
    ramp = np.linspace(0, 65535, 64).astype(np.uint16)[None].repeat(64, 0)
    found = pixels(save(Image.fromarray(ramp)), image_size=64)[0, :, 0]
    assert near(found, np.linspace(0, 255, 64), 1)


def test_alpha_is_composited_on_white():
    image = halves((255, 0, 0, 0), (0, 0, 255, 255), mode="RGBA")
    found = pixels(save(image))
    assert near(found[:, :12], WHITE)
    assert near(found[:, 20:], BLUE)


def test_transparent_palette_color_becomes_white():
    image = halves(RED, BLUE).quantize(2)
    transparent = image.getpixel((0, 0))
    found = pixels(save(image, transparency=transparent))
    assert near(found[:, :12], WHITE)
    assert near(found[:, 20:], BLUE)


def test_rotated_photograph_is_turned_upright():
    exif = Image.Exif()
    exif[0x0112] = 6  # to be rotated by 90 degrees, clockwise
    found = pixels(save(halves(RED, BLUE), "JPEG", exif=exif))
    assert near(found[:12], RED, 12)
    assert near(found[20:], BLUE, 12)


def test_embedded_profile_is_converted_to_srgb():
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB"))
    lab = ImageCms.profileToProfile(
        halves(RED, BLUE), ImageCms.createProfile("sRGB"), profile, outputMode="LAB"
    )
    with pytest.raises(Refused, match=UNSUPPORTED_MODE):
        decoded(save(lab, "TIFF"))
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    found = decoded(save(halves(RED, BLUE), icc_profile=srgb))
    assert found.notes == ()
    assert near(found.pixels[:, :12], RED)


def test_unreadable_profile_is_ignored_and_noted():
    found = decoded(save(halves(RED, BLUE), icc_profile=b"no profile at all"))
    assert found.notes == (PROFILE_IGNORED,)
    assert near(found.pixels[:, :12], RED)


def test_animation_first_frame_is_taken_and_noted():
    data = save(
        Image.new("RGB", (64, 64), RED),
        "GIF",
        save_all=True,
        append_images=[Image.new("RGB", (64, 64), BLUE)],
    )
    found = decoded(data)
    assert found.notes == (ANIMATED, ONE_COLOR)
    assert near(found.pixels, RED)


def test_center_crop_is_middle_square():
    image = Image.new("RGB", (128, 32), RED)
    image.paste(BLUE, (48, 0, 80, 32))
    assert near(pixels(save(image)), BLUE)


def test_random_crop_depends_on_index_only():
    data = save(draw("hills", 128, 0).crop((0, 0, 128, 64)))
    crops = [pixels(data, (0, i), crop="random") for i in range(8)]
    again = [pixels(data, (0, i), crop="random") for i in range(8)]
    assert all(np.array_equal(a, b) for a, b in zip(crops, again, strict=True))
    assert len({crop.tobytes() for crop in crops}) > 4


def test_upscaling_is_noted_and_beyond_limit_refused():
    data = save(draw("hills", 24, 0))
    assert decoded(data, image_size=32).notes == (UPSCALED,)
    with pytest.raises(Refused, match=TOO_SMALL):
        decoded(data, image_size=48)


def test_decompression_bomb_is_refused_by_header():
    bomb = save(Image.new("1", (20_000, 20_000)))
    assert len(bomb) < 100_000
    with pytest.raises(Refused, match=TOO_MANY_PIXELS):
        decoded(bomb)


def test_max_pixels_overrides_pillow_limit():
    data = save(Image.new("1", (10_000, 10_000)))  # Pillow would warn
    assert decoded(data, max_pixels=100_000_000).pixels.shape == (32, 32, 3)


@pytest.mark.parametrize("data", [b"no image", b"", b"%!PS-Adobe-3.0 EPSF-3.0\n"])
def test_other_bytes_are_undecodable(data):
    with pytest.raises(Refused, match=UNDECODABLE):
        decoded(data)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF"])
def test_truncated_file_is_refused(kind):
    data = save(draw("marble", 64, 0), kind)
    with pytest.raises(Refused):
        decoded(data[: len(data) // 2])


def test_truncated_data_is_counted_as_truncated():
    data = save(draw("marble", 64, 0))
    with pytest.raises(Refused, match=TRUNCATED):
        decoded(data[: len(data) // 2])


def test_damaged_bytes_give_pixels_or_a_reason():
    rng = np.random.default_rng(0)
    for kind in ("PNG", "JPEG", "WEBP", "GIF", "TIFF"):
        whole = np.frombuffer(save(draw("bouquet", 48, 0), kind), np.uint8)
        for _ in range(40):
            damaged = whole.copy()
            places = rng.integers(len(damaged), size=4)
            damaged[places] = rng.integers(256, size=4)
            assert outcome(damaged.tobytes()) in {"pixels", *REASONS}


def test_threads_decode_alike_and_restore_pillow_limits():
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


def sixteen_bits(image):
    """Encode an RGB image as PNG with 16 bits per channel, which Pillow does not write."""
    values = np.asarray(image).astype(">u2") * 257
    rows = b"".join(b"\0" + row.tobytes() for row in values)
    header = struct.pack(">IIBBBBB", image.width, image.height, 16, 2, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        for name, body in chunks
    )


def opaque(image):
    image = image.copy()
    image.putalpha(255)
    return image


def animated(image, kind):
    return save(image, kind, save_all=True, append_images=[Image.new("RGB", image.size, BLUE)])


# how each kind of file is written, and the mean difference that it may cost, in levels of 255
FILES = {
    "PNG": (save, 0),
    "JPEG": (lambda image: save(image, "JPEG", quality=95), 3),
    "progressive JPEG": (lambda image: save(image, "JPEG", quality=95, progressive=True), 3),
    "CMYK JPEG": (lambda image: save(image.convert("CMYK"), "JPEG", quality=95), 4),
    "CMYK TIFF": (lambda image: save(image.convert("CMYK"), "TIFF"), 1),
    "palette": (lambda image: save(image.quantize(256)), 6),
    "alpha": (lambda image: save(opaque(image)), 0),
    "WebP with alpha": (lambda image: save(opaque(image), "WEBP", lossless=True), 0),
    "16 bits per channel": (sixteen_bits, 0),
    "animated GIF": (lambda image: animated(image, "GIF"), 8),
    "animated WebP": (lambda image: animated(image, "WEBP"), 4),
    "animated PNG": (lambda image: animated(image, "PNG"), 0),
}


@pytest.fixture(scope="module", params=[256, 512])
def size(request):
    """Return the image sizes of the presets."""
    return request.param


@pytest.fixture(scope="module")
def painting(size):
    """Return an oblong image, larger than the size, and its middle square at the size."""
    image = draw("bouquet", size * 3 // 2, 0).crop((0, 0, size * 3 // 2, size * 5 // 4))
    return image, pixels(save(image), image_size=size).astype(int)


@pytest.mark.parametrize("kind", FILES)
def test_kinds_of_files_decode_to_same_painting(painting, size, kind):
    make, tolerance = FILES[kind]
    image, expected = painting
    found = decoded(make(image), image_size=size)
    assert found.notes == ((ANIMATED,) if "animated" in kind else ())
    assert np.abs(found.pixels - expected).mean() <= tolerance


TURNED = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", TURNED)
def test_exif_orientations_are_turned_upright(painting, size, kind, orientation):
    image, expected = painting
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"quality": 95} if kind == "JPEG" else {"lossless": True} if kind == "WEBP" else {}
    stored = save(image.transpose(TURNED[orientation]), kind, exif=exif, **options)
    found = pixels(stored, image_size=size)
    # an odd row more or less at the edge of the middle square shifts the image by part of a pixel
    assert np.abs(found - expected).mean() < 8


def swapped_profile():
    """Return an sRGB profile with red and green exchanged."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    red, green = profile.index(b"rXYZ"), profile.index(b"gXYZ")
    profile[red : red + 4], profile[green : green + 4] = b"gXYZ", b"rXYZ"
    return bytes(profile)


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_colors_follow_embedded_profile(size, mode):
    image = halves(RED, BLUE, (size, size)).convert(mode)
    found = decoded(save(image, icc_profile=swapped_profile()), image_size=size)
    assert found.notes == ()
    assert near(found.pixels[:, : size // 2 - 8], (0, 255, 0))
    assert near(found.pixels[:, size // 2 + 8 :], BLUE)


def test_profile_for_other_channels_is_ignored_and_noted(size):
    found = decoded(
        save(halves(RED, BLUE).convert("L"), icc_profile=swapped_profile()), image_size=64
    )
    assert found.notes == (PROFILE_IGNORED,)


@pytest.mark.parametrize(("width", "height"), [(3, 1), (1, 3), (2, 1)])
def test_letterbox_pads_whole_image_with_white_bars(size, width, height):
    image = Image.new("RGB", (width * size, height * size), RED)
    found = decoded(save(image), image_size=size, crop="letterbox")
    assert found.notes == (LETTERBOXED, ONE_COLOR)
    long, short = max(width, height), min(width, height)
    side = round(size * short / long)
    bar = (size - side) // 2
    pixels = found.pixels if height < width else found.pixels.transpose(1, 0, 2)
    assert near(pixels[:bar], WHITE)
    assert near(pixels[bar : bar + side], RED)
    assert near(pixels[bar + side :], WHITE)


def test_square_image_is_not_letterboxed():
    data = save(draw("hills", 64, 0))
    found = decoded(data, crop="letterbox")
    assert found.notes == ()
    assert np.array_equal(found.pixels, pixels(data))


def test_letterbox_upscaling_is_by_longer_side():
    data = save(halves(RED, BLUE, (48, 8)))
    assert decoded(data, image_size=48, crop="letterbox").notes == (LETTERBOXED,)
    assert UPSCALED in decoded(data, image_size=64, crop="letterbox").notes
    with pytest.raises(Refused, match=TOO_SMALL):
        decoded(data, image_size=96, crop="letterbox")


def test_letterbox_of_one_pixel_line():
    found = decoded(save(Image.new("RGB", (400, 1), RED)), crop="letterbox").pixels
    assert near(found[15], RED)
    assert near(found[:15], WHITE)


# ---- rectangles ----------------------------------------------------------------------------------


def columns(width, height):
    """An image whose red grows from left to right, and whose green grows downwards."""
    levels = np.zeros((height, width, 3), np.uint8)
    levels[..., 0] = np.linspace(0, 255, width).round()
    levels[..., 1] = np.linspace(0, 255, height).round()[:, None]
    return Image.fromarray(levels)


@pytest.mark.parametrize(("width", "height"), [(96, 64), (192, 64), (96, 128), (480, 640)])
def test_largest_rectangle_of_the_proportions_is_cut(width, height):
    image = columns(width, height)
    found = pixels(save(image), image_size="32x48")
    scale = min(width / 48, height / 32)
    spare = ((width - 48 * scale) / 2, (height - 32 * scale) / 2)
    box = (spare[0], spare[1], width - spare[0], height - spare[1])
    expected = image.resize((48, 32), Image.Resampling.LANCZOS, box=box)
    assert abs(found.astype(int) - np.asarray(expected)).max() <= 2


def test_rectangle_of_an_image_on_its_side_is_cut_upright():
    upright = columns(128, 96)
    turned = upright.transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[0x0112] = 6
    options = {"image_size": "32x48", "crop": "center"}
    data = save(turned, "JPEG", quality=95, exif=exif)
    difference = pixels(data, **options).astype(int) - pixels(save(upright), **options)
    assert abs(difference).mean() < 3


@pytest.mark.parametrize("crop", ["center", "letterbox"])
def test_limits_of_a_rectangle_are_those_of_the_upright_image(crop):
    exif = Image.Exif()
    exif[0x0112] = 6

    def notes(width, height):
        data = save(columns(height, width), "JPEG", quality=95, exif=exif)
        return decoded(data, image_size="64x96", crop=crop).notes

    assert notes(96, 64) == ()
    assert UPSCALED in notes(72, 48)
    with pytest.raises(Refused, match=TOO_SMALL):
        notes(60, 40)


@pytest.mark.parametrize("size", ["80x96", "96x80", "96x32", 96, "64x96"])
def test_exactly_the_largest_upscale_is_allowed(size):
    assert decoded(save(columns(64, 64)), image_size=size).notes == (UPSCALED,)


@pytest.mark.parametrize(
    ("width", "height", "inside"), [(96, 96, (8, 0, 40, 32)), (96, 32, (0, 8, 48, 24))]
)
def test_letterbox_pads_to_the_proportions(width, height, inside):
    found = decoded(
        save(Image.new("RGB", (width, height), RED)), image_size="32x48", crop="letterbox"
    )
    left, top, right, bottom = inside
    expected = np.full((32, 48, 3), 255)
    expected[top:bottom, left:right] = RED
    assert np.array_equal(found.pixels, expected)
    assert LETTERBOXED in found.notes


def test_letterbox_leaves_its_own_proportions():
    found = decoded(save(columns(96, 64)), image_size="32x48", crop="letterbox")
    assert found.notes == ()


def test_upscaling_of_a_rectangle_is_by_the_side_that_is_short():
    image = columns(200, 30)
    assert decoded(save(image), image_size="32x48").notes == (UPSCALED,)
    with pytest.raises(Refused, match=TOO_SMALL):
        pixels(save(columns(200, 20)), image_size="32x48")
    with pytest.raises(Refused, match=TOO_SMALL):
        pixels(save(columns(20, 200)), image_size="32x48")
