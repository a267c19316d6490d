"""Rates of FLUX's autoencoder: its exact network, with random weights."""

from functools import partial

import torch
from diffusers import AutoencoderKL

from benchmarks.gpu.session import Session
from liquidgen.compute.precision import autoencoder_dtype
from liquidgen.config.params import load_params
from liquidgen.latents.autoencoder import Autoencoder

NETWORK = {
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "block_out_channels": (128, 256, 512, 512),
    "layers_per_block": 2,
    "latent_channels": 16,
    "norm_num_groups": 32,
    "use_quant_conv": False,
    "use_post_quant_conv": False,
}
SMALL = NETWORK | {"block_out_channels": (32, 32, 32, 32), "layers_per_block": 1}


def run(session: Session) -> None:
    """Encode and decode a batch at 256 and at 512 px."""
    block = load_params(changes={"autoencoder": "flux"}).autoencoder
    model = AutoencoderKL(**(SMALL if session.is_rehearsal else NETWORK))
    dtype = autoencoder_dtype(block.precision, session.device)
    model = model.eval().requires_grad_(False)
    model = model.to(session.device, dtype, memory_format=torch.channels_last)
    autoencoder = Autoencoder(model, block, "")
    for side, images in ((64, 2),) if session.is_rehearsal else ((256, 64), (512, 16)):
        pixels = torch.rand(images, 3, side, side, device=session.device) * 2 - 1
        latents = autoencoder.encode(pixels)
        session.reset_peak_memory()
        rates = {
            "encoded_per_second": images / session.seconds_of(partial(autoencoder.encode, pixels)),
            "decoded_per_second": images / session.seconds_of(partial(autoencoder.decode, latents)),
        }
        session.record(
            "autoencoder",
            image_size=side,
            precision=str(dtype).removeprefix("torch."),
            parameters=model.num_parameters(),
            **rates,
            memory_gib=session.peak_memory(),
        )
