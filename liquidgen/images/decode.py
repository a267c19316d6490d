"""Decodes image files of any kind to sRGB pixels of one size, or refuses them with a reason."""

import io
import math
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from functools import cache
from threading import Lock
from typing import cast

import numpy as np
from PIL import ExifTags, Image, ImageCms, PngImagePlugin

from liquidgen.images.augment import augmented
from liquidgen.images.jpeg import load_jpeg
from liquidgen.images.metadata import without_metadata
from liquidgen.images.sixteen_bits import LARGEST, has_16_bits, largest, stretched
from liquidgen.images.transform import ImageTransform
from liquidgen.utils.image_size import sides

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
METADATA_IGNORED = "metadata_ignored"
ONE_COLOR = "one_color"
DARK_16_BIT = "dark_16_bit"
SUSPECT = (ONE_COLOR, DARK_16_BIT)  # the image may not be what its owner sees elsewhere

DARK = 2**14  # a 16-bit image of smaller values is noted: its camera has 10, 12 or 14 bits
MAX_METADATA = 2**26  # bytes of a PNG's texts, and of its profile, when decompressed

# EXIF orientation -> what turns the image upright
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
SIDEWAYS = [UPRIGHT[number] for number in (5, 6, 7, 8)]  # these swap width and height


Size = tuple[int, int]  # width and height, px


class Refused(Exception):
    """An image that cannot be used; the message is one of the reasons above."""


@dataclass(frozen=True)
class Decoded:
    """A decoded image.

    Attributes:
        pixels: uint8 (H, W, 3).
        notes: Changes made to the image, from the constants above.
        variants: uint8 (H, W, 3) each, see `augmented`.
    """

    pixels: np.ndarray
    notes: tuple[str, ...]
    variants: tuple[np.ndarray, ...] = ()


def decode(
    data: bytes, transform: ImageTransform, index: tuple[int, ...], num_variants: int = 0
) -> Decoded:
    """Decode, rotate upright, crop, resize, convert to sRGB, composite alpha on white.

    Args:
        data: Content of an image file.
        transform: Size, crop and limits.
        index: Numbers that identify the image; together with `crop_seed` the seed of its crop, and
            of its variants.
        num_variants: How many augmented variants of the image to return with it.

    Raises:
        Refused: The image cannot be decoded or is beyond the limits.
    """
    with pillow_limits_off:
        try:
            return _decode(data, transform, index, num_variants)
        except Refused as refused:
            if str(refused) not in (UNDECODABLE, TRUNCATED):
                raise
            # damaged metadata costs the metadata, not the image
            bare = without_metadata(data)
            if bare is None or len(bare) == len(data):
                raise
            with suppress(Refused):
                decoded = _decode(bare, transform, index, num_variants)
                return replace(decoded, notes=(*decoded.notes, METADATA_IGNORED))
            raise


def _decode(
    data: bytes, transform: ImageTransform, index: tuple[int, ...], num_variants: int
) -> Decoded:
    height, width = sides(transform.image_size)
    size = (width, height)
    notes = []
    with _refusing(UNDECODABLE):
        # limits are checked by the header, before any pixel is decoded
        opened = Image.open(io.BytesIO(data), formats=FORMATS)
        image: Image.Image = opened
        whole = image.size
        # of a progressive JPEG libjpeg holds all coefficients, at whatever fraction of its size
        sizes = [image.size] if image.info.get("progressive") else []
        least = (2 * max(size), 2 * max(size))
        image.draft(None, least)  # JPEG: decode at a fraction of the size
        if max(math.prod(one) for one in (*sizes, image.size)) > transform.max_pixels:
            raise Refused(TOO_MANY_PIXELS)
        sixteen_bits = has_16_bits(opened)
        if opened.format == "PNG" and opened.mode == "P" and opened.palette is None:
            raise Refused(UNDECODABLE)  # its colors are lost; Pillow may take shades of gray

    with _refusing(TRUNCATED):
        # a photograph with a second image (MPO) is no animation
        animated = image.format != "MPO" and getattr(image, "is_animated", False)
        notes += [ANIMATED] if animated else []
        if image.format in ("JPEG", "MPO"):
            image = load_jpeg(opened, data, least)
        else:
            image.load()

    with _refusing(UNDECODABLE):
        profile = image.info.get("icc_profile")
        notes += [DARK_16_BIT] if sixteen_bits and largest(image) < DARK else []
        turn, readable = _turn(image)
        notes += [] if readable else [METADATA_IGNORED]
        whole = whole[::-1] if turn in SIDEWAYS else whole
        scale = _scale(whole, size, transform.crop)
        if scale * transform.max_upscale < 1:
            raise Refused(TOO_SMALL)
        notes += [UPSCALED] if scale < 1 else []
        if transform.crop == "letterbox" and whole[0] * height != whole[1] * width:
            notes += [LETTERBOXED]
        if sixteen_bits and transform.stretch_to_maximum:
            _check_range(image)
            image = stretched(image, data)
        image = image if turn is None else image.transpose(turn)

        # resize before the conversion to sRGB: there are fewer pixels to convert
        plain = _plain(image)
        resized, usable = _to_srgb(_resized(plain, size, transform, index), profile)
        notes += [] if usable else [PROFILE_IGNORED]
        resized = _on_white(resized)
        colors = np.asarray(resized)
        notes += [ONE_COLOR] if (colors == colors[0, 0]).all() else []
        pixels = np.asarray(_with_bars(resized, size))

    variants = _variants(plain, profile, size, transform, index, num_variants)
    return Decoded(pixels, tuple(notes), variants)


@contextmanager
def _refusing(reason: str) -> Iterator[None]:
    """Refuse an image for any exception: for damaged files Pillow raises them of all types."""
    try:
        yield
    except (Refused, MemoryError):
        raise
    except Exception:
        raise Refused(reason) from None


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
                # an intact profile or text may have more than its cap of 1 MB
                limit = PngImagePlugin.MAX_TEXT_CHUNK
                self._restore.callback(setattr, PngImagePlugin, "MAX_TEXT_CHUNK", limit)
                PngImagePlugin.MAX_TEXT_CHUNK = MAX_METADATA
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


def _turn(image: Image.Image) -> tuple[Image.Transpose | None, bool]:
    """Return what turns the image upright, and whether its metadata are readable."""
    try:
        return UPRIGHT.get(image.getexif().get(ExifTags.Base.Orientation, 1)), True
    except MemoryError:
        raise
    except Exception:  # for damaged data Pillow raises exceptions of any type
        return None, False


def _plain(image: Image.Image) -> Image.Image:
    """Convert to mode L, RGB, RGBA or CMYK, which can be resized."""
    if image.mode.startswith("I"):
        _check_range(image)
        return Image.fromarray((np.asarray(image) // 257).astype(np.uint8))
    if image.has_transparency_data:
        return image.convert("RGBA")
    if image.mode in ("L", "RGB", "CMYK"):
        return image
    if image.mode == "1":
        return image.convert("L")
    if image.mode in ("P", "YCbCr", "HSV", "LA", "RGBX"):
        return image.convert("RGB")
    raise Refused(UNSUPPORTED_MODE)


def _check_range(image: Image.Image) -> None:
    """Refuse integers that are no 16-bit values; the range of other modes is their own."""
    if image.mode.startswith("I"):
        values = np.asarray(image)
        if values.min() < 0 or values.max() > LARGEST:
            raise Refused(UNSUPPORTED_MODE)


def _scale(image: Size, size: Size, crop: str) -> float:
    """Return how many times as large as the result the part of an image is that becomes it.

    The part has the proportions of the result: the largest inside the image, or of a letterbox the
    smallest around it.
    """
    fit = max if crop == "letterbox" else min
    return fit(have / want for have, want in zip(image, size, strict=True))


def _resized(
    image: Image.Image, size: Size, transform: ImageTransform, index: tuple[int, ...]
) -> Image.Image:
    """Crop and resize; a letterboxed image is resized only, its bars come last."""
    if transform.crop == "letterbox":
        scale = min(want / have for have, want in zip(image.size, size, strict=True))
        width, height = (max(1, round(side * scale)) for side in image.size)
        return image.resize((width, height), Image.Resampling.LANCZOS, reducing_gap=3.0)
    scale = _scale(image.size, size, transform.crop)
    width, height = (max(1, round(scale * side)) for side in size)
    spare = (image.width - width, image.height - height)
    if transform.crop == "random":
        generator = np.random.default_rng((transform.crop_seed, *index))
        left, top = generator.integers(spare, endpoint=True).tolist()
    else:
        left, top = spare[0] // 2, spare[1] // 2
    box = (left, top, left + width, top + height)
    if (width, height) == size:
        return image if image.size == size else image.crop(box)
    return image.resize(size, Image.Resampling.LANCZOS, box=box, reducing_gap=3.0)


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


def _variants(
    plain: Image.Image,
    profile: bytes | None,
    size: Size,
    transform: ImageTransform,
    index: tuple[int, ...],
    count: int,
) -> tuple[np.ndarray, ...]:
    if not count:
        return ()
    # at twice the size, so that the transformation does not blur
    width, height = size
    large = (2 * width, 2 * height)
    image, _ = _to_srgb(_resized(plain, large, transform, index), profile)
    image = _with_bars(_on_white(image), large)
    # another seed than that of the crop
    generator = np.random.default_rng((transform.crop_seed, *index, 1))
    variants = augmented(image, count, generator)
    return tuple(np.asarray(one.resize(size, Image.Resampling.LANCZOS)) for one in variants)


def _with_bars(image: Image.Image, size: Size) -> Image.Image:
    if image.size == size:
        return image
    padded = Image.new("RGB", size, "white")
    padded.paste(image, ((size[0] - image.width) // 2, (size[1] - image.height) // 2))
    return padded
