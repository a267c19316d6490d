"""Autoencoders of the hub with random weights, in their real shapes or in small ones."""

from pathlib import Path

import torch

from liquidgen.config.settings import AutoencoderSettings
from liquidgen.latents.weights import KINDS

# config.json of the FLUX.1 autoencoder
FLUX = {
    "latent_channels": 16,
    "block_out_channels": (128, 256, 512, 512),
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "layers_per_block": 2,
    "norm_num_groups": 32,
    "sample_size": 1024,
    "scaling_factor": 0.3611,
    "shift_factor": 0.1159,
    "use_quant_conv": False,
    "use_post_quant_conv": False,
    "force_upcast": True,
}
SDXL = FLUX | {
    "latent_channels": 4,
    "scaling_factor": 0.13025,
    "shift_factor": None,
    "use_quant_conv": True,
    "use_post_quant_conv": True,
    "force_upcast": False,
}
SHAPES = {"flux": FLUX, "sdxl": SDXL, "taef1": {"latent_channels": 16}}  # by preset


def small(block: AutoencoderSettings) -> dict:
    """Return the shape of a small autoencoder that fits a block, whichever preset it is."""
    stages = block.downscale.bit_length()
    shapes = {
        "kl": {
            "block_out_channels": (8,) * stages,
            "down_block_types": ("DownEncoderBlock2D",) * stages,
            "up_block_types": ("UpDecoderBlock2D",) * stages,
            "layers_per_block": 1,
            "norm_num_groups": 4,
            "force_upcast": block.precision != "fp16",
            "scaling_factor": block.scale,
            "shift_factor": block.shift,
        },
        "tiny": {
            "encoder_block_out_channels": (8,) * stages,
            "decoder_block_out_channels": (8,) * stages,
            "num_encoder_blocks": (1,) * stages,
            "num_decoder_blocks": (1,) * stages,
        },
        "dc": {
            "encoder_block_out_channels": (16,) * stages,
            "decoder_block_out_channels": (16,) * stages,
            "encoder_block_types": "ResBlock",
            "decoder_block_types": "ResBlock",
            "encoder_layers_per_block": (1,) * stages,
            "decoder_layers_per_block": (1,) * stages,
            "encoder_qkv_multiscales": ((),) * stages,
            "decoder_qkv_multiscales": ((),) * stages,
        },
    }
    return shapes[block.kind] | {"latent_channels": block.channels}


def save(block: AutoencoderSettings, shape: dict, folder: Path) -> None:
    """Write an autoencoder of a block's kind in diffusers' layout, with random weights."""
    import diffusers

    torch.manual_seed(0)
    model = getattr(diffusers, KINDS[block.kind].class_name)(**shape)
    model.to(torch.bfloat16).save_pretrained(folder)
