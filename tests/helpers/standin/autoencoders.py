"""The hub's autoencoders with random weights: of the real shapes, or shrunken ones."""

from pathlib import Path

import torch

from liquidgen.config.settings import AutoencoderSettings
from liquidgen.latents.kinds import KINDS

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
SHAPES = {"flux": FLUX, "sdxl": SDXL, "taef1": {"latent_channels": 16}}
SMALLER = {"block_out_channels": (8, 8, 16, 16), "norm_num_groups": 4, "layers_per_block": 1}
SHRUNKEN = {
    "flux": FLUX | SMALLER,
    "sdxl": SDXL | SMALLER,
    "taef1": {
        "latent_channels": 16,
        "encoder_block_out_channels": (8,) * 4,
        "decoder_block_out_channels": (8,) * 4,
        "num_encoder_blocks": (1,) * 4,
        "num_decoder_blocks": (1,) * 4,
    },
}


def save(block: AutoencoderSettings, shape: dict, folder: Path) -> None:
    """Write an autoencoder of a block's kind in diffusers' layout, with weights of one seed."""
    import diffusers

    torch.manual_seed(0)
    model = getattr(diffusers, KINDS[block.kind].class_name)(**shape)
    model.to(torch.bfloat16).save_pretrained(folder)
