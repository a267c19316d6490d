"""LiquidGen: an attention-free latent image generator, trained as a reproducible pipeline."""
