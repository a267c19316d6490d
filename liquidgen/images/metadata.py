"""Image files without their metadata, for files whose metadata alone is damaged."""

import re
import struct
from collections.abc import Iterator

PNG = b"\x89PNG\r\n\x1a\n"
PNG_CHUNK = 12  # bytes of a chunk without its content
TRANSPARENCY = b"tRNS"  # the only chunk in lower case that changes pixels

JPEG = b"\xff\xd8"
SCAN = 0xDA
# where a segment begins; decoders skip fill bytes and what else stands before it
SEGMENT = re.compile(rb"\xff[^\x00\xff]")
# of JPEG's application segments these say which colors the channels are: marker -> least length
COLOR_SEGMENTS = {0xE0: 16, 0xEE: 14}
APPLICATION_AND_COMMENT = {*range(0xE0, 0xF0), 0xFE}

WEBP_CHUNKS = (b"VP8 ", b"VP8L", b"VP8X", b"ALPH", b"ANIM", b"ANMF")  # codespell:ignore
WEBP_PIXEL_FLAGS = 0b0001_0010  # of VP8X: transparency and animation


def without_metadata(data: bytes) -> bytes | None:
    """Return an image file without texts, EXIF, profiles and the like.

    The pixels and their checksums are copied as they are.

    Args:
        data: Content of an image file.

    Returns:
        The new content; None for formats other than PNG, JPEG and WebP, and for files in which
        the parts cannot be told apart.
    """
    try:
        if data.startswith(PNG):
            return PNG + b"".join(_png_pixels(data))
        if data.startswith(JPEG):
            return JPEG + b"".join(_jpeg_pixels(data))
        if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
            chunks = b"".join(_webp_pixels(data))
            return b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WEBP" + chunks
    except (struct.error, IndexError):  # the file ends within the head of a part
        pass
    return None


def _png_pixels(data: bytes) -> Iterator[bytes]:
    start = len(PNG)
    while start < len(data):
        length, name = struct.unpack_from(">I4s", data, start)
        end = start + PNG_CHUNK + length
        if name[:1].isupper() or name == TRANSPARENCY:
            yield data[start:end]
        start = end


def jpeg_segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Yield marker, start and end of the segments of a JPEG; the last one is the first scan.

    Raises:
        IndexError or struct.error: The file ends before its first scan.
    """
    end = len(JPEG)
    while found := SEGMENT.search(data, end):
        start, marker = found.start(), data[found.start() + 1]
        if marker == SCAN:
            yield SCAN, start, len(data)
            return
        end = start + 2 + struct.unpack_from(">H", data, start + 2)[0]
        yield marker, start, end
    raise IndexError("no scan")


def _jpeg_pixels(data: bytes) -> Iterator[bytes]:
    for marker, start, end in jpeg_segments(data):
        is_color = end - start - 2 >= COLOR_SEGMENTS.get(marker, len(data))
        if is_color or marker not in APPLICATION_AND_COMMENT:
            yield data[start:end]


def _webp_pixels(data: bytes) -> Iterator[bytes]:
    start = 12
    while start < len(data):
        name, length = struct.unpack_from("<4sI", data, start)
        end = start + 8 + length + length % 2
        if name == b"VP8X":
            flags = data[start + 8] & WEBP_PIXEL_FLAGS
            yield data[start : start + 8] + bytes([flags]) + data[start + 9 : end]
        elif name in WEBP_CHUNKS:
            yield data[start:end]
        start = end
