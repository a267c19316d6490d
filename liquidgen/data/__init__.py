"""Where images come from, pixels, and the formats of raw images and latents."""
