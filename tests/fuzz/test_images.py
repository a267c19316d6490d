"""Damaged image files are decoded or refused with a reason; nothing else escapes."""

import io
import os

import numpy as np
import pytest
from helpers.fuzz import TRIED, damaged
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from liquidgen.images.decode import Refused, decode
from liquidgen.images.transform import ImageTransform

pytestmark = pytest.mark.fault("fuzz: image files of ten formats")
TRANSFORM = ImageTransform(
    image_size=16, crop="center", crop_seed=0, max_upscale=100, max_pixels=10**6
)


def _file(kind: str, mode: str) -> bytes:
    levels = np.random.default_rng(0).integers(0, 256, (24, 20, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(levels).convert(mode).save(file, kind)
    return file.getvalue()


MODES = {
    "PNG": ("RGB", "P", "LA", "1", "I;16"),
    "JPEG": ("RGB", "L", "CMYK"),
    "WEBP": ("RGB", "RGBA"),
    "GIF": ("P", "L"),
    "BMP": ("RGB", "P"),
    "TIFF": ("RGB", "P", "CMYK"),
    "AVIF": ("RGB",),
    "JPEG2000": ("RGB",),
    "PPM": ("RGB", "L"),
    "TGA": ("RGB", "P"),
}
FILES = [_file(kind, mode) for kind, modes in MODES.items() for mode in modes]


@given(st.sampled_from(FILES).flatmap(damaged))
def test_damaged_image(data: bytes):
    TRIED[os.environ["PYTEST_CURRENT_TEST"].partition(" ")[0]] += 1
    try:
        pixels = decode(data, TRANSFORM, (0, 0)).pixels
    except Refused:
        return
    assert (pixels.shape, pixels.dtype) == ((16, 16, 3), np.uint8)
