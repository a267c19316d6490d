"""LiquidGen: an attention-free latent image generator, trained as a reproducible pipeline."""

import os
from importlib import import_module

# How torch's threads wait for each other, two thousand times in a step. By themselves they spin for
# milliseconds: beside another busy process they then use up the time of the thread that they wait
# for, and a step takes several times as long. OpenMP reads these when torch is loaded, so they are
# set before. What the user has set stays as it is. Measured by benchmarks/busy.py.
_WAITING = {
    "GOMP_SPINCOUNT": "12000",  # of GNU's OpenMP, as in torch for Linux; some 150 microseconds
    "KMP_BLOCKTIME": "1",  # ms; of LLVM's and Intel's, as in torch for macOS and from conda
}
if not {"OMP_WAIT_POLICY", *_WAITING} & os.environ.keys():
    os.environ |= _WAITING

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
