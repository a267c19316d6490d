"""Remembers which shards of a large dataset were verified, and their labels.

Reading a terabyte takes ten minutes or more, at each start of a training. A shard is taken for
verified if a file of the same path, size, inode and time of modification had the right digest
before; DVC treats its outputs so, too. Small datasets are always read.
"""

import os
import time
from contextlib import suppress
from pathlib import Path

import numpy as np

from liquidgen.utils.files import StoredFile, atomic, sha256

FOLDER = Path("~/.cache/liquidgen/shards")
LARGE = 10**10  # bytes of a dataset, which take some seconds to read
UNUSED_SECONDS = 90 * 24 * 3600  # after which an entry is deleted


def known_labels(folder: Path, shard: StoredFile) -> np.ndarray | None:
    """Return the labels int64 (N,) of a shard that was verified and is unchanged; None if not."""
    try:
        path = _entry(folder, shard)
        labels = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    if labels.dtype != np.int32 or labels.shape != (shard.count,):
        return None
    with suppress(OSError):
        os.utime(path)
    return labels.astype(np.int64)


def remember(folder: Path, shard: StoredFile, labels: np.ndarray) -> None:
    """Record that a shard was verified; where that cannot be written it is read again.

    Args:
        folder: Folder of the shard.
        shard: Its entry in the manifest.
        labels: Its labels, integers (N,).
    """
    path = _entry(folder, shard)
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic(path) as file:
            np.lib.format.write_array(file, labels.astype(np.int32), allow_pickle=False)


def forget_unused() -> None:
    """Delete the entries that were not used for long, of shards that are gone or have changed."""
    with suppress(OSError):
        for path in FOLDER.expanduser().glob("*.npy"):
            if time.time() - path.stat().st_mtime > UNUSED_SECONDS:
                path.unlink()


def _entry(folder: Path, shard: StoredFile) -> Path:
    """Return the path of a shard's entry, whose name changes with everything that must not."""
    path = (folder / shard.name).absolute()
    found = path.stat()
    identity = f"{path} {found.st_size} {found.st_ino} {found.st_mtime_ns} {shard.sha256}"
    return FOLDER.expanduser() / f"{sha256(identity.encode())[:32]}.npy"
