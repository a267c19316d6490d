"""The network: noisy latents, times and labels in, velocity out."""
