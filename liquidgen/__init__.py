"""LiquidGen: an attention-free latent image generator, trained as a reproducible pipeline."""

from importlib import import_module

# Loaded on first use: importing LiquidGen must not take the seconds that torch takes.
_MODULES = {
    "LiquidGenPipeline": "pipeline.pipeline",
    "TrainConfig": "api",
    "train": "api",
}
__all__ = [*_MODULES]


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
