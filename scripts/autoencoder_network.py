"""The builtin autoencoder's network and what it learns from."""

import torch
from diffusers import AutoencoderDC

LATENT_CHANNELS = 16
LATENT_STD = 0.6  # that the channels are pulled to
LATENT_NOISE = 0.03  # added in training: a generator's latents are never exact
LATENT_PULL = 0.1  # weight of the pull
ERROR_FLOOR = 4e-4  # squared error in [-1, 1] (40 dB) below which an image is good enough


def network() -> AutoencoderDC:
    """16 channels, 8x (Chen et al. 2024, without attention): wide only where pixels are few."""
    return AutoencoderDC(
        latent_channels=LATENT_CHANNELS,
        encoder_block_out_channels=(32, 32, 64, 128),
        encoder_layers_per_block=(0, 1, 1, 1),
        encoder_qkv_multiscales=((), (), (), ()),
        decoder_block_out_channels=(32, 48, 96, 128),
        decoder_layers_per_block=(0, 1, 2, 3),
        decoder_qkv_multiscales=((), (), (), ()),
    ).to(memory_format=torch.channels_last)


def autoencoded(model: AutoencoderDC, pixels: torch.Tensor) -> torch.Tensor:
    """Pixels -> latents -> pixels, not clamped."""
    return model.decode(model.encode(pixels).latent).sample


def loss_of(model: AutoencoderDC, pixels: torch.Tensor) -> torch.Tensor:
    """Mean log squared error of the images, which is PSNR up to a factor, and tidy latents.

    The logarithm keeps a few busy images of a batch from outweighing all the calm ones.
    """
    latents = model.encode(pixels).latent
    noisy = latents + LATENT_NOISE * torch.randn_like(latents)
    errors = (model.decode(noisy).sample - pixels).square().mean(dim=(1, 2, 3))
    std, mean = torch.std_mean(latents, dim=(0, 2, 3))
    pull = mean.square().mean() + (std - LATENT_STD).square().mean()
    return (errors + ERROR_FLOOR).log().mean() + LATENT_PULL * pull
