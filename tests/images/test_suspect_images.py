"""Images that decode, but perhaps not to what their owner sees: noted, and stretched on demand."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from liquidgen.images.decode import (
    DARK_16_BIT,
    ONE_COLOR,
    TOO_MANY_PIXELS,
    TOO_SMALL,
    Decoded,
    Refused,
    decode,
)
from liquidgen.images.transform import ImageTransform
from liquidgen.stages.download.procedural import draw

pytestmark = pytest.mark.fault("images that look other than meant")

SIDE = 32
TRANSFORM = ImageTransform(
    image_size=SIDE, crop="center", crop_seed=0, max_upscale=1.5, max_pixels=1_000_000
)
RAMP = np.linspace(0, 1, SIDE)[None, :, None].repeat(SIDE, 0)  # (H, W, 1)


def decoded(data: bytes, **changes: object) -> Decoded:
    return decode(data, TRANSFORM.model_copy(update=changes), (0, 0))


def save(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def png(values: np.ndarray) -> bytes:
    """Encode values (H, W, channels) as PNG with 16 bits, which Pillow writes for gray only."""
    color = {1: 0, 2: 4, 3: 2, 4: 6}[values.shape[2]]
    header = struct.pack(">IIBBBBB", values.shape[1], values.shape[0], 16, color, 0, 0, 0)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    parts = [(b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        for name, body in parts
    )


def tiff(values: np.ndarray, order: str) -> bytes:
    """Encode values (H, W, 3) as TIFF with 16 bits."""
    height, width, _ = values.shape
    data = values.astype(f"{order}u2").tobytes()
    count, end = 10, 8 + 2 + 12 * 10 + 4
    fields = [
        (256, 4, 1, width),
        (257, 4, 1, height),
        (258, 3, 3, end),
        (259, 3, 1, 1),
        (262, 3, 1, 2),
        (273, 4, 1, end + 6),
        (277, 3, 1, 3),
        (278, 4, 1, height),
        (279, 4, 1, len(data)),
        (284, 3, 1, 1),
    ]
    content = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}HIH", 42, 8, count)
    for tag, kind, number, value in fields:
        content += struct.pack(f"{order}HHI", tag, kind, number)
        short = kind == 3 and number == 1
        content += struct.pack(f"{order}HH", value, 0) if short else struct.pack(f"{order}I", value)
    return content + struct.pack(f"{order}IHHH", 0, 16, 16, 16) + data


def ramp(bits: int, channels: int) -> np.ndarray:
    """A ramp from black to white of a sensor with so many bits; an even channel count is opaque."""
    values = (RAMP * (2**bits - 1)).round().astype(np.uint16).repeat(channels, 2)
    if channels in (2, 4):
        values[..., -1] = 65535
    return values


FILES = {
    "gray PNG": lambda bits: png(ramp(bits, 1)),
    "gray PNG with alpha": lambda bits: png(ramp(bits, 2)),
    "PNG": lambda bits: png(ramp(bits, 3)),
    "PNG with alpha": lambda bits: png(ramp(bits, 4)),
    "TIFF": lambda bits: tiff(ramp(bits, 3), "<"),
    "TIFF in the other order": lambda bits: tiff(ramp(bits, 3), ">"),
    "gray TIFF": lambda bits: save(Image.fromarray(ramp(bits, 1)[..., 0]), "TIFF"),
    "compressed gray TIFF": lambda bits: save(
        Image.fromarray(ramp(bits, 1)[..., 0]), "TIFF", compression="tiff_lzw"
    ),
}


@pytest.mark.parametrize("kind", FILES)
def test_16_bit_files_of_fewer_bits_are_noted_and_stretched(kind: str):
    for bits in (10, 12, 14):
        data = FILES[kind](bits)
        assert DARK_16_BIT in decoded(data).notes
        found = decoded(data, stretch_to_maximum=True)
        assert DARK_16_BIT in found.notes
        assert np.abs(found.pixels - 255 * RAMP).max() <= 1.5


@pytest.mark.parametrize("kind", FILES)
def test_full_16_bit_files_are_the_same_stretched(kind: str):
    data = FILES[kind](16)
    found = decoded(data)
    assert found.notes == ()
    assert np.abs(found.pixels - 255 * RAMP).max() <= 1.5
    assert (
        np.abs(found.pixels.astype(int) - decoded(data, stretch_to_maximum=True).pixels).max() <= 1
    )


def test_8_bit_files_are_never_stretched():
    for image in (
        draw("starry_night", 64, 0).point(lambda value: value // 4),
        Image.new("L", (64, 64)),
    ):
        found = decoded(save(image), stretch_to_maximum=True)
        assert DARK_16_BIT not in found.notes
        assert np.array_equal(found.pixels, decoded(save(image)).pixels)


def test_images_of_one_color_are_noted():
    icon = Image.new("RGBA", (64, 64), (255, 255, 255, 0))
    icon.paste((255, 255, 255, 255), (16, 16, 48, 48))
    blank = Image.new("RGB", (80, 64), (3, 2, 1))
    for image, kind in [(icon, "PNG"), (icon, "WEBP"), (blank, "PNG"), (blank, "JPEG")]:
        assert ONE_COLOR in decoded(save(image, kind)).notes
        assert ONE_COLOR in decoded(save(image, kind), crop="letterbox").notes
    icon.putpixel((20, 20), (0, 0, 0, 255))
    assert ONE_COLOR not in decoded(save(icon)).notes


def test_pixel_cap_follows_what_is_decoded():
    photo = draw("hills", 64, 0).resize((2048, 1536))
    data = save(photo, "JPEG")  # 3 megapixels; an eighth of each side is decoded
    found = decoded(data, max_pixels=60_000)
    assert np.array_equal(found.pixels, decoded(data, max_pixels=10**7).pixels)
    assert found.notes == ()
    with pytest.raises(Refused, match=TOO_MANY_PIXELS):
        decoded(data, max_pixels=40_000)
    # all of it is held in memory
    for whole in (save(photo, "JPEG", progressive=True), save(photo)):
        with pytest.raises(Refused, match=TOO_MANY_PIXELS):
            decoded(whole, max_pixels=60_000)


def test_smallest_side_is_that_of_the_file():
    data = save(draw("hills", 64, 0).resize((512, 24)), "JPEG")
    with pytest.raises(Refused, match=TOO_SMALL):
        decoded(data, image_size=48)
