"""Dtypes of training and of the autoencoder on each kind of device."""

import pytest
import torch

from liquidgen.compute.precision import autoencoder_dtype, network_dtype
from liquidgen.utils.errors import UserError

CPU = torch.device("cpu")
CUDA = torch.device("cuda")


@pytest.fixture
def set_native_bf16(monkeypatch):
    """Return a function that sets whether GPUs compute in bf16; a T4 only emulates it."""

    def patch(native):
        monkeypatch.setattr(
            torch.cuda,
            "is_bf16_supported",
            lambda including_emulation=True: native or including_emulation,
        )

    return patch


@pytest.mark.parametrize(
    ("precision", "device", "native", "expected"),
    [
        ("bf16", "cuda", True, torch.bfloat16),
        ("bf16", "cuda", False, torch.float32),  # a T4
        ("fp16", "cuda", False, torch.float16),
        ("fp32", "cuda", True, torch.float32),
        ("bf16", "cpu", True, torch.float32),
        ("fp16", "cpu", True, torch.float32),
    ],
)
def test_autoencoder_half_precision_only_where_native(
    precision, device, native, expected, set_native_bf16
):
    set_native_bf16(native)
    assert autoencoder_dtype(precision, torch.device(device)) == expected


@pytest.mark.parametrize(
    ("precision", "device", "native", "expected"),
    [
        ("auto", "cuda", True, torch.bfloat16),
        ("auto", "cuda", False, torch.float16),  # a T4
        ("auto", "cpu", True, torch.float32),
        ("bf16", "cuda", True, torch.bfloat16),
        ("bf16", "cpu", False, torch.bfloat16),
        ("fp16", "cuda", False, torch.float16),
        ("fp32", "cuda", True, torch.float32),
    ],
)
def test_network_auto_avoids_emulated_bf16(precision, device, native, expected, set_native_bf16):
    set_native_bf16(native)
    assert network_dtype(precision, torch.device(device), "train") == expected


def test_network_auto_is_fp32_on_a_cpu():
    assert network_dtype("auto", CPU, "sample") == torch.float32


@pytest.mark.parametrize(
    ("precision", "device", "message"),
    [
        ("fp16", CPU, r"^sample\.precision: fp16 needs a CUDA device; use fp32, bf16 or auto$"),
        ("bf16", CUDA, r"^sample\.precision: this card has no bf16; use fp16, fp32 or auto$"),
    ],
)
def test_network_precision_the_device_lacks_is_refused(precision, device, message, set_native_bf16):
    set_native_bf16(False)
    with pytest.raises(UserError, match=message):
        network_dtype(precision, device, "sample")
