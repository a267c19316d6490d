"""JPEG files that end too early: those whose pixels are whole are told from the others."""

import io
import re
from contextlib import suppress

from PIL import Image, ImageFile

from liquidgen.images.metadata import SCAN, jpeg_segments

END = b"\xff\xd9"
GRAY = {127, 128}  # what libjpeg draws where data are missing; the former in CMYK
ZEROS = bytes(16)  # at the end of a file: the rest was never written, as of a broken download
# in the pixels of a scan, 0xff is followed by zero or by one of the marks between their groups
MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")
MAX_SIZE = (2**16, 2**16)
FILLERS = (bytes(4096), b"\xaa" * 4096)  # decoded in place of missing data


def load_jpeg(
    image: ImageFile.ImageFile, data: bytes, least: tuple[int, int]
) -> ImageFile.ImageFile:
    """Load a JPEG, all of whose pixels must be there; its end mark need not.

    Args:
        image: The opened image.
        data: The file.
        least: Size that the image has at least, where it is decoded at a fraction of its own.

    Raises:
        OSError: Some pixels are missing.
    """
    written = data.rstrip(b"\0") if data.endswith(ZEROS) else data
    try:
        image.load()
    except OSError:
        return _without_end(written.rstrip(b"\xff"), least)
    # what is missing before an end mark, or is zeros, libjpeg draws without an error
    *_, (_, scan, _) = jpeg_segments(data)
    end = data.find(END, scan)
    corner = image.crop((image.width - 1, image.height - 1, image.width, image.height))
    if end < 0 or set(corner.tobytes()) <= GRAY:
        _without_end(written if end < 0 else data[:end], least)
    return image


def _without_end(data: bytes, least: tuple[int, int]) -> ImageFile.ImageFile:
    """Load a JPEG that lacks its end mark, and no more than that."""
    if not _ends_in_last_scan(data):
        raise OSError("scans are missing")
    image = _opened(data + END, least)
    image.load()
    # In place of missing data libjpeg decodes what follows; if none are missing, it skips that.
    # Without an end mark it draws no progressive image; any other one has to be complete without
    # the mark, at which libjpeg would draw all that is missing in gray.
    whole, end = image.tobytes(), b""
    if image.info.get("progressive"):
        least = MAX_SIZE  # a fraction of the size would hide what the later scans lack
        whole, end = _opened(data + END, least).tobytes(), END
    for filler in FILLERS:
        continued = _opened(data + filler + end, least)
        with suppress(OSError):
            continued.load()
        continued.tile = []  # keep what was decoded before an error
        if continued.tobytes() != whole:
            raise OSError("pixels are missing")
    return image


def _opened(data: bytes, least: tuple[int, int]) -> ImageFile.ImageFile:
    image = Image.open(io.BytesIO(data), formats=("JPEG",))
    image.draft(None, least)
    return image


def _ends_in_last_scan(data: bytes) -> bool:
    """Return whether data end in a scan that may be the last one: it has the pixels' last bits."""
    start = [match.start() for match in MARKER.finditer(data)][-1]
    length = int.from_bytes(data[start + 2 : start + 4])
    last_bits = data[start + 1 + length : start + 2 + length]  # how many bits a later scan adds
    return data[start + 1] == SCAN and last_bits != b"" and last_bits[0] & 0x0F == 0
