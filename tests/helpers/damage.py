"""Damage as it happens to files at rest: bits change, size and time do not."""

import os
from pathlib import Path


def flip_a_bit(path: Path, place: float = 0.5) -> None:
    """Flip a bit in place, so that every link to the file has it, and DVC does not notice.

    Args:
        path: The file.
        place: Where, as a share of the file.
    """
    status = path.stat()
    data = bytearray(path.read_bytes())
    data[int(place * (len(data) - 1))] ^= 1
    mode = status.st_mode
    path.chmod(0o644)
    with open(path, "r+b") as file:
        file.write(data)
    path.chmod(mode)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
