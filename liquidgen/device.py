"""The device that work runs on."""

import torch

from liquidgen.errors import UserError


def resolve_device(name: str) -> torch.device:
    """The device of `machine.device`; auto is CUDA where there is one, else the CPU.

    Raises UserError for a CUDA device that is not there.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    device = torch.device(name)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise UserError(
            f"machine.device: '{name}', but there are {torch.cuda.device_count()} CUDA devices; "
            "use auto or cpu, or install torch for CUDA"
        )
    return device


def give_back(device: torch.device) -> None:
    """Return a GPU's memory of what nobody refers to any more, so that others can have it."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
