"""A trained generator: its folder of weights and metadata, and the images drawn from it."""
