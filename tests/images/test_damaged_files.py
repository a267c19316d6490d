"""Damaged files: metadata cost no image, missing pixels always do, and nothing else escapes."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms

from liquidgen.images.decode import (
    METADATA_IGNORED,
    PROFILE_IGNORED,
    TRUNCATED,
    UNDECODABLE,
    Decoded,
    Refused,
    decode,
)
from liquidgen.images.transform import ImageTransform
from liquidgen.stages.download.procedural import draw

pytestmark = pytest.mark.fault("damaged image files")

TRANSFORM = ImageTransform(
    image_size=32, crop="center", crop_seed=0, max_upscale=1.5, max_pixels=10_000_000
)
PAINTING = draw("bouquet", 64, 1)
HEADER = 33  # bytes before the first optional chunk of a PNG
END = 12  # bytes of the last chunk
BROKEN_EXIF = bytes.fromhex("0000110000010400")
LONG_TEXT = zlib.compress(bytes(3_000_000))
TEXT_BOMB = zlib.compress(bytes(100_000_000))


def save(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def decoded(data: bytes, image_size: int = 32) -> Decoded:
    return decode(data, TRANSFORM.model_copy(update={"image_size": image_size}), (0, 0))


def outcome(data: bytes) -> str | tuple[str, ...]:
    """Return the reason of a refusal, or the notes."""
    try:
        return decoded(data).notes
    except Refused as refused:
        return str(refused)


def chunk(name: bytes, data: bytes, wrong_checksum: bool = False) -> bytes:
    checksum = zlib.crc32(name + data) ^ wrong_checksum
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", checksum)


def segment(marker: int, data: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(data) + 2) + data


# chunk -> the note that it causes, if any
PNG_METADATA = {
    "damaged EXIF": (chunk(b"eXIf", BROKEN_EXIF), METADATA_IGNORED),
    "long compressed text": (chunk(b"zTXt", b"workflow\0\0" + LONG_TEXT), None),
    "long international text": (chunk(b"iTXt", b"workflow\0\1\0\0\0" + LONG_TEXT), None),
    "text bomb": (chunk(b"zTXt", b"workflow\0\0" + TEXT_BOMB), METADATA_IGNORED),
    "cut profile": (chunk(b"iCCP", b"sRGB\0\0" + LONG_TEXT[:50]), PROFILE_IGNORED),
    "empty profile": (chunk(b"iCCP", b""), METADATA_IGNORED),
    "unknown compression": (chunk(b"iCCP", b"sRGB\0\7" + LONG_TEXT), METADATA_IGNORED),
    "short density": (chunk(b"pHYs", b"\0"), METADATA_IGNORED),
    "short gamma": (chunk(b"gAMA", b"\0"), METADATA_IGNORED),
} | {
    f"checksum of {name.decode()}": (chunk(name, bytes(16), True), METADATA_IGNORED)
    for name in (b"tEXt", b"eXIf", b"iCCP", b"pHYs", b"tIME", b"abCd")
}


@pytest.mark.parametrize("kind", PNG_METADATA)
def test_damaged_metadata_of_png_cost_no_image(kind: str):
    damaged, note = PNG_METADATA[kind]
    whole = save(PAINTING)
    found = decoded(whole[:HEADER] + damaged + whole[HEADER:])
    assert np.array_equal(found.pixels, decoded(whole).pixels)
    assert found.notes == ((note,) if note else ())
    # after the pixels
    found = decoded(whole[:-END] + damaged + whole[-END:])
    assert np.array_equal(found.pixels, decoded(whole).pixels)


def test_long_profile_is_used():
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    found = decoded(save(PAINTING, icc_profile=profile + bytes(2_000_000)))
    assert found.notes == ()


JPEG_METADATA = {
    "broken EXIF": segment(0xE1, b"Exif\0\0" + BROKEN_EXIF),
    "short JFIF": segment(0xE0, b"JFIF"),
    "short Adobe": segment(0xEE, b"Adobe"),
    "short profile": segment(0xE2, b"ICC_PROFILE\0"),
    "profile": segment(0xE2, b"ICC_PROFILE\0\1\1none"),
    "Photoshop": segment(0xED, b"Photoshop 3.0\0" + b"8BIM\x03\xed"),
    "second image": segment(0xE2, b"MPF\0none"),
}


@pytest.mark.parametrize("kind", JPEG_METADATA)
def test_damaged_metadata_of_jpeg_cost_no_image(kind: str):
    whole = save(PAINTING, "JPEG")
    found = decoded(whole[:2] + JPEG_METADATA[kind] + whole[2:])
    assert np.array_equal(found.pixels, decoded(whole).pixels)


@pytest.mark.parametrize("between", [b"\xff\xff", b"\0\0\0"])
def test_jpeg_with_bytes_between_its_segments_is_whole(between: bytes):
    whole = save(PAINTING, "JPEG")
    comment = segment(0xFE, b"a comment")
    found = decoded(whole[:2] + comment + between + whole[2:])
    assert np.array_equal(found.pixels, decoded(whole).pixels)
    assert found.notes == ()


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
@pytest.mark.parametrize("lossless", [True, False])
def test_damaged_metadata_of_webp_cost_no_image(mode: str, lossless: bool):
    exif = Image.Exif()
    exif[0x0112] = 1
    image = PAINTING.convert(mode)
    whole = save(image, "WEBP", lossless=lossless, exif=exif.tobytes())
    expected = decoded(save(image, "WEBP", lossless=lossless)).pixels
    place = whole.index(b"EXIF") + 4
    wrong_length = whole[:place] + b"\xff\xff\0\0" + whole[place + 4 :]
    for damaged in (whole[:-1], whole[:-10], wrong_length):
        found = decoded(damaged)
        assert np.array_equal(found.pixels, expected)
        assert found.notes == (METADATA_IGNORED,)


JPEGS = [
    {},
    {"quality": 99},
    {"progressive": True},
    {"restart_marker_blocks": 4},
    {"optimize": True, "subsampling": 0},
]


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("options", JPEGS)
def test_jpeg_without_its_end_mark_is_whole(mode: str, options: dict):
    for image_size, side in ((32, 64), (32, 515), (128, 200)):
        data = save(draw("bouquet", side, 1).convert(mode), "JPEG", **options)
        assert data.endswith(b"\xff\xd9")
        for cut in (1, 2):
            found = decoded(data[:-cut], image_size)
            assert np.array_equal(found.pixels, decoded(data, image_size).pixels)
            assert found.notes == ()


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("options", JPEGS)
@pytest.mark.parametrize("share", [0.3, 0.5, 0.9])
def test_jpeg_without_all_pixels_is_truncated(mode: str, options: dict, share: float):
    whole = save(draw("bouquet", 200, 1).convert(mode), "JPEG", **options)
    data = whole[: int(len(whole) * share)]
    assert outcome(data) == TRUNCATED
    # a download that was broken off, into a file of the whole size
    assert outcome(data + bytes(len(whole) - len(data))) == TRUNCATED
    if "progressive" not in options:  # libjpeg draws the rest in gray
        assert outcome(data + b"\xff\xd9") == TRUNCATED


def test_gray_picture_is_whole():
    image = PAINTING.copy()
    image.paste((128, 128, 128), (0, 32, 64, 64))
    data = save(image, "JPEG", quality=95)
    assert np.asarray(Image.open(io.BytesIO(data)))[-1, -1].tolist() == [128, 128, 128]
    assert outcome(data[:-2]) == ()
    # whatever a camera adds after the end of the image
    second = save(PAINTING, "JPEG")
    for added in (b"", bytes(100), second, second[:-2], b"mp4 \xff\xc4\0\xff\xd9" * 9 + bytes(99)):
        assert outcome(data + added) == ()
        assert outcome(second + added) == ()


def palette_png(palette: bytes, *others: bytes) -> bytes:
    """A PNG of 8 x 8 pixels with 256 indices at most."""
    header = struct.pack(">IIBBBBB", 64, 64, 8, 3, 0, 0, 0)
    rows = b"".join(b"\0" + bytes(range(row, row + 64)) for row in range(64))
    pixels = chunk(b"IDAT", zlib.compress(rows))
    parts = [chunk(b"IHDR", header), palette, *others, pixels, chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


COLORS = bytes(range(256)) * 3


@pytest.mark.parametrize(
    "data",
    [
        palette_png(b""),  # no palette
        palette_png(b"", chunk(b"tRNS", bytes(10))),
        palette_png(chunk(b"PLTE", COLORS), chunk(b"tRNS", bytes(range(256)) + bytes(44))),
        palette_png(chunk(b"PLTE", COLORS), chunk(b"tRNS", b"\x80" * 5000)),
    ],
)
def test_damaged_palettes_are_refused(data: bytes):
    assert outcome(data) == UNDECODABLE


def test_intact_palette_with_transparency_is_used():
    found = decoded(palette_png(chunk(b"PLTE", COLORS), chunk(b"tRNS", b"\xff" * 256)))
    assert len(np.unique(found.pixels)) > 10


def test_damaged_small_files_give_pixels_or_a_reason():
    rng = np.random.default_rng(1)
    image = PAINTING.resize((24, 24))
    exif = Image.Exif()
    exif[0x0112] = 6
    files = [
        save(image.quantize(16)),
        save(image.quantize(16), transparency=bytes(range(16))),
        save(image, exif=exif),
        save(image, "JPEG", exif=exif),
        save(image.convert("L"), "TIFF", compression="tiff_lzw"),
        save(image, "WEBP", exif=exif),
    ]
    for data in files:
        for _ in range(60):
            damaged = bytearray(data[: rng.integers(len(data) // 2, len(data) + 1)])
            for place in rng.integers(len(damaged), size=rng.integers(4)):
                damaged[place] = rng.integers(256)
            assert outcome(bytes(damaged)) is not None
