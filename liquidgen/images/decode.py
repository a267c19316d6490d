"""Decodes image files of any kind to square sRGB pixels, or refuses them with a reason."""

import io
import warnings
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cache
from threading import Lock
from typing import cast

import numpy as np
from PIL import ExifTags, Image, ImageCms, ImageOps

from liquidgen.images.transform import ImageTransform

# formats that Pillow itself decodes: never EPS, which would run another program
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "JPEG2000", "PPM", "TGA")

# reasons of a refusal
UNDECODABLE = "undecodable"
TRUNCATED = "truncated"
TOO_MANY_PIXELS = "too_many_pixels"
TOO_SMALL = "too_small"
UNSUPPORTED_MODE = "unsupported_mode"

# notes on an image that is used
ANIMATED = "animated_first_frame"
UPSCALED = "upscaled"
LETTERBOXED = "letterboxed"
PROFILE_IGNORED = "profile_ignored"


class Refused(Exception):
    """An image that cannot be used; the message is one of the reasons above."""


@dataclass(frozen=True)
class Decoded:
    """A decoded image.

    Attributes:
        pixels: uint8 (S, S, 3).
        notes: Changes made to the image, from the constants above.
    """

    pixels: np.ndarray
    notes: tuple[str, ...]


def decode(data: bytes, transform: ImageTransform, index: tuple[int, ...]) -> Decoded:
    """Decode, rotate upright, make a square, resize, convert to sRGB, composite alpha on white.

    Args:
        data: Content of an image file.
        transform: Size, crop and limits.
        index: Numbers that identify the image; together with `crop_seed` the seed of its crop.

    Raises:
        Refused: The image cannot be decoded or is beyond the limits.
    """
    size = transform.image_size
    with pillow_limits_off:
        # limits are checked by the header, before any pixel is decoded
        image = _open(data)
        if image.width * image.height > transform.max_pixels:
            raise Refused(TOO_MANY_PIXELS)
        oblong = image.width != image.height
        side = _side(image, transform.crop)
        if size > side * transform.max_upscale:
            raise Refused(TOO_SMALL)
        notes = [UPSCALED] if size > side else []

        image.draft(None, (2 * size, 2 * size))  # JPEG: decode at a fraction of the size
        image, animated = _load(image)
    notes += [ANIMATED] if animated else []
    notes += [LETTERBOXED] if oblong and transform.crop == "letterbox" else []

    # resize before the conversion to sRGB: there are fewer pixels to convert
    square = _square(_plain(image), transform, index)
    square, usable = _to_srgb(square, image.info.get("icc_profile"))
    notes += [] if usable else [PROFILE_IGNORED]
    return Decoded(np.asarray(_with_bars(_on_white(square), size)), tuple(notes))


class _PillowLimitsOff:
    """Disables Pillow's cap of pixels and its warnings while any thread is inside.

    Both are settings of the whole process: the first thread sets and the last one restores them.
    A thread that starts others holds the context around them, so that it is the last.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._inside = 0
        self._restore = ExitStack()

    def __enter__(self) -> None:
        with self._lock:
            if self._inside == 0:
                # Pillow's cap is far above ours, and warns where it should refuse
                self._restore.callback(setattr, Image, "MAX_IMAGE_PIXELS", Image.MAX_IMAGE_PIXELS)
                Image.MAX_IMAGE_PIXELS = None
                self._restore.enter_context(warnings.catch_warnings())
                # about damaged metadata, which is not used
                warnings.filterwarnings("ignore", module=r"PIL\.")
            self._inside += 1

    def __exit__(self, *error: object) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                self._restore.close()


pillow_limits_off = _PillowLimitsOff()


def _open(data: bytes) -> Image.Image:
    try:
        return Image.open(io.BytesIO(data), formats=FORMATS)
    except MemoryError:
        raise
    except Exception:  # for damaged headers Pillow raises exceptions of any type
        raise Refused(UNDECODABLE) from None


def _load(image: Image.Image) -> tuple[Image.Image, bool]:
    """Return the first frame, rotated upright, and whether there are more frames."""
    try:
        # a photograph with a second image (MPO) is no animation
        animated = image.format != "MPO" and getattr(image, "is_animated", False)
        image.load()
        orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
        return ImageOps.exif_transpose(image) if orientation != 1 else image, animated
    except MemoryError:
        raise
    except Exception:  # for damaged data Pillow raises exceptions of any type
        raise Refused(TRUNCATED) from None


def _plain(image: Image.Image) -> Image.Image:
    """Convert to mode L, RGB, RGBA or CMYK, which can be resized."""
    if image.mode.startswith("I"):
        values = np.asarray(image)
        if values.min() < 0 or values.max() > 65535:
            raise Refused(UNSUPPORTED_MODE)
        return Image.fromarray((values // 257).astype(np.uint8))
    if image.has_transparency_data:
        return image.convert("RGBA")
    if image.mode in ("L", "RGB", "CMYK"):
        return image
    if image.mode == "1":
        return image.convert("L")
    if image.mode in ("P", "YCbCr", "HSV", "LA", "RGBX"):
        return image.convert("RGB")
    raise Refused(UNSUPPORTED_MODE)


def _side(image: Image.Image, crop: str) -> int:
    """Return the side of the square, before it is resized."""
    return max(image.size) if crop == "letterbox" else min(image.size)


def _square(image: Image.Image, transform: ImageTransform, index: tuple[int, ...]) -> Image.Image:
    """Crop and resize to the square; a letterboxed image is resized only, its bars come last."""
    size = transform.image_size
    if transform.crop == "letterbox":
        scale = size / max(image.size)
        width, height = (max(1, round(side * scale)) for side in image.size)
        return image.resize((width, height), Image.Resampling.LANCZOS, reducing_gap=3.0)
    side = min(image.size)
    spare = (image.width - side, image.height - side)
    if transform.crop == "random":
        generator = np.random.default_rng((transform.crop_seed, *index))
        left, top = generator.integers(spare, endpoint=True).tolist()
    else:
        left, top = spare[0] // 2, spare[1] // 2
    box = (left, top, left + side, top + side)
    if side == size:
        return image if image.size == (size, size) else image.crop(box)
    return image.resize((size, size), Image.Resampling.LANCZOS, box=box, reducing_gap=3.0)


def _to_srgb(image: Image.Image, profile: bytes | None) -> tuple[Image.Image, bool]:
    """Convert by the embedded profile; the second value is False if it could not be used."""
    if not profile:
        return image, True
    alpha = image.getchannel("A") if image.mode == "RGBA" else None
    colors = image.convert("RGB") if alpha else image
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        converted = ImageCms.profileToProfile(colors, source, _srgb(), outputMode="RGB")
    except (ImageCms.PyCMSError, OSError, ValueError):
        return image, False
    converted = cast(Image.Image, converted)  # None only for a conversion in place
    if alpha:
        converted.putalpha(alpha)
    return converted, True


@cache
def _srgb() -> ImageCms.ImageCmsProfile:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))


def _on_white(image: Image.Image) -> Image.Image:
    if image.mode != "RGBA":
        return image if image.mode == "RGB" else image.convert("RGB")
    white = Image.new("RGBA", image.size, "white")
    return Image.alpha_composite(white, image).convert("RGB")


def _with_bars(image: Image.Image, size: int) -> Image.Image:
    if image.size == (size, size):
        return image
    square = Image.new("RGB", (size, size), "white")
    square.paste(image, ((size - image.width) // 2, (size - image.height) // 2))
    return square
