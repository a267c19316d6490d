"""Autoencoder classes of diffusers, by the names that `kind` of an autoencoder's block may have.

Settings read these names, so that this module must import neither torch nor diffusers.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Kind:
    """A class of autoencoders.

    Attributes:
        class_name: Its name in diffusers, and in config.json.
        stages: Key in config.json of the widths of the encoder's stages; each stage but the first
            halves the side.
        latents_of: Function from the output of `encode` to raw latents.
    """

    class_name: str
    stages: str
    latents_of: Callable[[Any], "torch.Tensor"]


KINDS = {
    "dc": Kind("AutoencoderDC", "encoder_block_out_channels", lambda output: output.latent),
    "tiny": Kind("AutoencoderTiny", "block_out_channels", lambda output: output.latents),
    "kl": Kind("AutoencoderKL", "block_out_channels", lambda output: output.latent_dist.mode()),
}
