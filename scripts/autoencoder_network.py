"""Network and loss of the builtin autoencoder."""

import torch
from diffusers import AutoencoderDC

LATENT_CHANNELS = 16
LATENT_STD = 0.6  # target of each channel
LATENT_NOISE = 0.03  # added in training, because the latents of a generator are inexact
LATENT_WEIGHT = 0.1  # of the loss term that pulls mean and deviation to 0 and LATENT_STD
ERROR_FLOOR = 4e-4  # squared error in [-1, 1] (40 dB) below which the loss hardly improves


def network() -> AutoencoderDC:
    """Create the network: 16 channels, 8x (Chen et al. 2024, without attention)."""
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
    """Encode and decode pixels, without clamping."""
    return model.decode(model.encode(pixels).latent).sample


def loss_of(model: AutoencoderDC, pixels: torch.Tensor) -> torch.Tensor:
    """Compute the mean log squared error of the images (PSNR up to a factor), and a latent term.

    The logarithm keeps a few detailed images of a batch from outweighing the others.
    """
    latents = model.encode(pixels).latent
    noisy = latents + LATENT_NOISE * torch.randn_like(latents)
    errors = (model.decode(noisy).sample - pixels).square().mean(dim=(1, 2, 3))
    std, mean = torch.std_mean(latents, dim=(0, 2, 3))
    pull = mean.square().mean() + (std - LATENT_STD).square().mean()
    return (errors + ERROR_FLOOR).log().mean() + LATENT_WEIGHT * pull
