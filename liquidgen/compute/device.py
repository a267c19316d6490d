"""Device selection and memory settings."""

import ctypes
import sys

import torch

from liquidgen.utils.errors import UserError

# parameters of mallopt, from glibc's malloc.h
M_TRIM_THRESHOLD = -1
M_MMAP_THRESHOLD = -3
MAX_MMAP_THRESHOLD = 2**25  # bytes; the largest value that glibc accepts
NEVER_TRIM = 2**31 - 1  # bytes


def resolve_device(name: str) -> torch.device:
    """Return the device of `machine.device`; `auto` is CUDA if available, else the CPU.

    Raises:
        UserError: The name is unknown, or the CUDA device is not available.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    if device is None or device.type not in ("cpu", "cuda"):
        raise UserError(f"machine.device: '{name}' is not known; use auto, cpu, cuda or cuda:1")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise UserError(
            f"machine.device: '{name}', but there are {torch.cuda.device_count()} CUDA devices; "
            "use auto or cpu, or install torch for CUDA"
        )
    return device


def empty_cache(device: torch.device) -> None:
    """Release cached memory of a GPU, so that other models and processes can allocate it."""
    if device.type == "cuda":
        torch.cuda.empty_cache()


def keep_freed_memory() -> None:
    """Keep freed main memory in this process, where the C library is glibc.

    Each training step on a CPU allocates again what the step before freed. Memory that went back
    to the kernel in between costs page faults: a tenth of the time of a small network's step.
    """
    if sys.platform == "linux" and (mallopt := getattr(ctypes.CDLL(None), "mallopt", None)):
        mallopt(M_MMAP_THRESHOLD, MAX_MMAP_THRESHOLD)
        mallopt(M_TRIM_THRESHOLD, NEVER_TRIM)
