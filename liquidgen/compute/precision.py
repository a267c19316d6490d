"""Dtypes of the network and of the autoencoder on a device.

One rule for both: bf16 only where a GPU computes in it natively. A T4 emulates it slowly, and
torch counts the emulation as support unless told otherwise.
"""

import torch

from liquidgen.utils.errors import UserError


def has_native_bf16(device: torch.device) -> bool:
    """Whether the device is a GPU that computes in bf16 without emulating it."""
    return device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)


def network_dtype(precision: str, device: torch.device, section: str) -> torch.dtype:
    """Return the dtype of the network's forward pass, under autocast.

    Args:
        precision: fp32, bf16, fp16 or auto: bf16 where the GPU has it, else fp16; fp32 on a CPU.
        device: Device of the network.
        section: Section of params.yaml that has the setting, for the message.

    Raises:
        UserError: fp16 on a CPU, or bf16 on a GPU without it.
    """
    cuda = device.type == "cuda"
    if precision == "auto":
        precision = ("bf16" if has_native_bf16(device) else "fp16") if cuda else "fp32"
    if precision == "fp16" and not cuda:
        raise UserError(f"{section}.precision: fp16 needs a CUDA device; use fp32, bf16 or auto")
    if precision == "bf16" and cuda and not has_native_bf16(device):
        raise UserError(f"{section}.precision: this card has no bf16; use fp16, fp32 or auto")
    return {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]


def autocast(device: torch.device, dtype: torch.dtype) -> torch.autocast:
    """Return the context in which a network computes in a dtype; fp32 leaves it as it is."""
    return torch.autocast(device.type, dtype, enabled=dtype != torch.float32)


def autoencoder_dtype(precision: str, device: torch.device) -> torch.dtype:
    """Return the dtype of the autoencoder's weights and activations.

    Unlike in training a setting that the device lacks is no error: the result is fp32, because a
    preset's precision belongs to the autoencoder, not to the machine.

    Args:
        precision: fp32, bf16 or fp16.
        device: Device of the autoencoder.
    """
    if precision == "bf16" and has_native_bf16(device):
        return torch.bfloat16
    return torch.float16 if precision == "fp16" and device.type == "cuda" else torch.float32
