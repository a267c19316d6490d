"""The network: latents and conditions in, velocity out."""
