"""Image files of any kind, to square RGB pixels, or the reason why not."""

import io
import warnings
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cache
from threading import Lock

import numpy as np
from PIL import ExifTags, Image, ImageCms, ImageOps

# formats that Pillow itself decodes: never EPS, which would run another program
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "JPEG2000", "PPM", "TGA")

UNDECODABLE = "undecodable"
TRUNCATED = "truncated"
TOO_MANY_PIXELS = "too_many_pixels"
TOO_SMALL = "too_small"
UNSUPPORTED_MODE = "unsupported_mode"

ANIMATED = "animated_first_frame"
UPSCALED = "upscaled"
LETTERBOXED = "letterboxed"
PROFILE_IGNORED = "profile_ignored"


class Refused(Exception):
    """An image that cannot be used; the message is the reason to count."""


@dataclass(frozen=True)
class Decoded:
    """Pixels uint8 (S, S, 3), and notes to count: what was done that changes the picture."""

    pixels: np.ndarray
    notes: tuple[str, ...]


def decode(
    data: bytes,
    *,
    image_size: int,
    crop: str,
    max_upscale: float,
    max_pixels: int,
    seed: tuple[int, ...],
) -> Decoded:
    """Decode, turn upright, make a square, resize, convert to sRGB, put alpha on white.

    | crop | square |
    |---|---|
    | center, random | cut from the middle, or where the seed says, as wide as the shorter side |
    | letterbox | nothing is cut off: white bars fill up the shorter side |

    Raises:
        Refused: with one of the reasons above.
    """
    with own_limits:
        image = _open(data)
        if image.width * image.height > max_pixels:
            raise Refused(TOO_MANY_PIXELS)
        oblong, side = image.width != image.height, _side(image, crop)
        if image_size > side * max_upscale:
            raise Refused(TOO_SMALL)
        notes = [UPSCALED] if image_size > side else []
        image.draft(None, (2 * image_size, 2 * image_size))  # JPEG: decode at a fraction
        image, animated = _load(image)
    notes += [ANIMATED] if animated else []
    notes += [LETTERBOXED] if oblong and crop == "letterbox" else []
    square = _square(_plain(image), image_size, crop, seed)
    square, usable = _to_srgb(square, image.info.get("icc_profile"))
    notes += [] if usable else [PROFILE_IGNORED]
    return Decoded(np.asarray(_with_bars(_on_white(square), image_size)), tuple(notes))


class _OwnLimits:
    """While any thread is inside, Pillow neither caps pixels nor warns.

    Both are settings of the whole process, so that the first thread sets and the last restores.
    A thread that starts others holds it around them, so that it is the last.
    """

    def __init__(self) -> None:
        self._lock, self._inside, self._before = Lock(), 0, ExitStack()

    def __enter__(self) -> None:
        with self._lock:
            if self._inside == 0:
                # Pillow's cap is far above ours, and warns where it should refuse
                self._before.callback(setattr, Image, "MAX_IMAGE_PIXELS", Image.MAX_IMAGE_PIXELS)
                Image.MAX_IMAGE_PIXELS = None
                self._before.enter_context(warnings.catch_warnings())
                # of damaged metadata, which we do not use
                warnings.filterwarnings("ignore", module=r"PIL\.")
            self._inside += 1

    def __exit__(self, *error: object) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                self._before.close()


own_limits = _OwnLimits()


def _open(data: bytes) -> Image.Image:
    try:
        return Image.open(io.BytesIO(data), formats=FORMATS)
    except MemoryError:
        raise
    except Exception:  # damaged headers make Pillow's readers raise anything
        raise Refused(UNDECODABLE) from None


def _load(image: Image.Image) -> tuple[Image.Image, bool]:
    """The first frame, upright, and whether there are more."""
    try:
        # a photograph with a second picture (MPO) is no animation
        animated = image.format != "MPO" and getattr(image, "is_animated", False)
        image.load()
        orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
        return ImageOps.exif_transpose(image) if orientation != 1 else image, animated
    except MemoryError:
        raise
    except Exception:  # damaged data make Pillow's readers raise anything
        raise Refused(TRUNCATED) from None


def _plain(image: Image.Image) -> Image.Image:
    """The image in mode L, RGB, RGBA or CMYK, which can be resized."""
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
    """Side of the square of the image that becomes the picture."""
    return max(image.size) if crop == "letterbox" else min(image.size)


def _square(image: Image.Image, size: int, crop: str, seed: tuple[int, ...]) -> Image.Image:
    """The image or a square of it, resized; a letterboxed one gets its bars at the end."""
    if crop == "letterbox":
        scale = size / max(image.size)
        fitted = tuple(max(1, round(side * scale)) for side in image.size)
        return image.resize(fitted, Image.Resampling.LANCZOS, reducing_gap=3.0)
    side = min(image.size)
    spare = (image.width - side, image.height - side)
    if crop == "random":
        left, top = np.random.default_rng(seed).integers(spare, endpoint=True).tolist()
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
        colors = ImageCms.profileToProfile(colors, source, _srgb(), outputMode="RGB")
    except (ImageCms.PyCMSError, OSError, ValueError):
        return image, False
    if alpha:
        colors.putalpha(alpha)
    return colors, True


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
