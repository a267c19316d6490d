"""The device that work runs on."""

import ctypes
import sys

import torch

from liquidgen.utils.errors import UserError

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h
LARGEST_MMAP_THRESHOLD = 2**25  # bytes; glibc takes no more
NEVER = 2**31 - 1


def resolve_device(name: str) -> torch.device:
    """The device of `machine.device`; auto is CUDA where there is one, else the CPU.

    Raises UserError for an unknown one, and for a CUDA device that is not there.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    if device is None or device.type not in ("cpu", "cuda"):
        raise UserError(f"device '{name}': not known; use auto, cpu, cuda or cuda:1")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise UserError(
            f"machine.device: '{name}', but there are {torch.cuda.device_count()} CUDA devices; "
            "use auto or cpu, or install torch for CUDA"
        )
    return device


def empty_cache(device: torch.device) -> None:
    """Return a GPU's memory of what nobody refers to any more, so that others can have it."""
    if device.type == "cuda":
        torch.cuda.empty_cache()


def keep_freed_memory() -> None:
    """Let this process keep main memory that it frees, where the C library is glibc.

    Each step on a CPU needs again what the last one freed. Given back in between, it is cleared
    anew by the kernel, page by page: a tenth of the time of a small network's step.
    """
    if sys.platform == "linux" and (mallopt := getattr(ctypes.CDLL(None), "mallopt", None)):
        mallopt(M_MMAP_THRESHOLD, LARGEST_MMAP_THRESHOLD)
        mallopt(M_TRIM_THRESHOLD, NEVER)
