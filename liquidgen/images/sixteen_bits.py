"""Images with 16 bits per channel, of which cameras and microscopes often use 10 to 14."""

import io
import sys
from itertools import chain

import numpy as np
from PIL import Image, ImageFile

LARGEST = 2**16 - 1
# Of several channels Pillow reads the upper bytes only. Read as if the bytes were in the other
# order, the lower ones; gray with alpha is read as four channels of one byte each.
OTHER_ORDER = {"B": "L", "L": "B", "N": "B" if sys.byteorder == "little" else "L"}
LOWER_BYTES = {
    f"{channels};16{order}": f"{channels};16{other}"
    for channels in ("RGB", "RGBA", "RGBX")
    for order, other in OTHER_ORDER.items()
} | {"LA;16B": "RGBA"}


def has_16_bits(image: ImageFile.ImageFile) -> bool:
    """Return whether a file that is not loaded yet has 16 bits per channel of light."""
    return image.mode.startswith("I") or any(mode in LOWER_BYTES for mode in _raw_modes(image))


def largest(image: Image.Image) -> int:
    """Return about the largest value of the colors, of a loaded image that has 16 bits."""
    if image.mode.startswith("I"):
        return int(np.asarray(image).max())
    return int(np.asarray(image)[..., :3].max()) * 257


def stretched(image: Image.Image, data: bytes) -> Image.Image:
    """Scale a 16-bit image to 8 bits by its own largest value, instead of by 65535.

    Args:
        image: The loaded image.
        data: The file.
    """
    gray = image.mode.startswith("I")
    values = np.asarray(image).astype(np.uint32)
    if not gray:
        values = values[..., :3] * 256 + _lower_bytes(data)
    scaled = values * 255 // max(1, int(values.max()))
    result = Image.fromarray(scaled.astype(np.uint8))
    if image.has_transparency_data and not gray:
        result.putalpha(image.convert("RGBA").getchannel("A"))
    return result


def _lower_bytes(data: bytes) -> np.ndarray:
    """Read the lower bytes of the colors (H, W, 3)."""
    image = Image.open(io.BytesIO(data))
    (mode,) = {mode for mode in _raw_modes(image) if mode in LOWER_BYTES}
    lower = LOWER_BYTES[mode]
    image.tile = [
        tile._replace(args=(lower, *tile.args[1:]) if isinstance(tile.args, tuple) else lower)
        for tile in image.tile
    ]
    pixels = np.asarray(image)
    return pixels[..., [1, 1, 1]] if mode.startswith("LA") else pixels[..., :3]


def _raw_modes(image: ImageFile.ImageFile) -> list[str]:
    """Return how the pixels are laid out in a file that is not loaded yet, in Pillow's names."""
    args = [tile.args if isinstance(tile.args, tuple) else (tile.args,) for tile in image.tile]
    return [name for name in chain.from_iterable(args) if isinstance(name, str)]
