"""Train the builtin autoencoder, or score it with --evaluate; its card has commands and scores."""

import argparse
import math
import time
from copy import deepcopy
from pathlib import Path

import numpy as np
import torch
from autoencoder_images import TrainingImages, holdout, parquet_images
from autoencoder_network import autoencoded, loss_of, network
from autoencoder_scores import comparison, patch_pca, psnr, reconstructed, table, to_pixels
from muon import Muon
from torch import nn

from liquidgen.config.settings import AutoencoderSettings
from liquidgen.latents.autoencoder import load_autoencoder

LEARNING_RATE = 2e-3
MOMENTUM = 0.95
BETAS = (0.9, 0.99)
WARMUP_STEPS = 100
EMA_DECAY = 0.998
MATRIX_ROWS = 16  # Muon optimizes convolutions with more inputs and outputs than this
LOG_EVERY = 250  # steps between scores and saved weights
LOG_IMAGES = 64  # per set
PCA_CROPS = 4000
COMPARED = 12  # images per comparison


def optimizers_of(model: nn.Module) -> list[torch.optim.Optimizer]:
    """Create Muon for the large convolutions and AdamW for the rest."""
    matrices = []
    rest = []
    for weight in model.parameters():
        large = weight.ndim == 4 and min(weight.shape[:2]) > MATRIX_ROWS
        (matrices if large else rest).append(weight)
    return [
        Muon(matrices, lr=LEARNING_RATE, momentum=MOMENTUM),
        torch.optim.AdamW(rest, lr=LEARNING_RATE, betas=BETAS, weight_decay=0.0),
    ]


def rate(step: int, steps: int) -> float:
    """Return the learning rate: linear warm-up, then a cosine to zero."""
    warmup = min(1.0, (step + 1) / WARMUP_STEPS)
    return LEARNING_RATE * warmup * 0.5 * (1 + math.cos(math.pi * step / steps))


def update(optimizers: list[torch.optim.Optimizer], learning_rate: float) -> None:
    """Do one step of each optimizer."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = learning_rate
        optimizer.step()
        optimizer.zero_grad()


def update_ema(ema: nn.Module, model: nn.Module, step: int) -> None:
    """Update the EMA, faster at the start."""
    decay = min(EMA_DECAY, (1 + step) / (10 + step))
    torch._foreach_lerp_(list(ema.parameters()), list(model.parameters()), 1 - decay)


def train(args: argparse.Namespace, image_sets: dict[str, np.ndarray]) -> None:
    """Train from scratch, and save the averaged weights with each line of scores."""
    torch.manual_seed(args.seed)
    images = TrainingImages(args.font, args.seed)
    model = network()
    ema = deepcopy(model).requires_grad_(False)
    optimizers = optimizers_of(model)
    print(f"{sum(weight.numel() for weight in model.parameters()):,} parameters", flush=True)
    start = time.perf_counter()
    for step in range(args.steps):
        loss = loss_of(model, to_pixels(images.batch(args.batch_size)))
        loss.backward()
        update(optimizers, rate(step, args.steps))
        update_ema(ema, model, step)
        if (step + 1) % LOG_EVERY == 0 or step + 1 == args.steps:
            minutes = (time.perf_counter() - start) / 60
            print(f"{step + 1:6d}  {minutes:5.1f} min  loss {loss.item():.3f}  ", end="")
            print(progress(ema, image_sets), flush=True)
            deepcopy(ema).half().save_pretrained(args.output)


def progress(model: nn.Module, image_sets: dict[str, np.ndarray]) -> str:
    """Return PSNR on the first images of each set."""
    scores = []
    for name, images in image_sets.items():
        few = images[:LOG_IMAGES]
        others = reconstructed(lambda pixels: autoencoded(model, pixels), few)
        scores.append(f"{name} {psnr(few, others):.2f}")
    return "  ".join(scores)


def load(kind: str, folder: Path):
    """Load an autoencoder of diffusers as a function from pixels to pixels."""
    settings = AutoencoderSettings(
        kind=kind,
        path=str(folder),
        sha256=None,
        license="unknown",
        precision="fp32",
        channels=16,
        downscale=8,
        scale=1.0,
        shift=0.0,
    )
    autoencoder = load_autoencoder(settings, "cpu")
    return lambda pixels: autoencoder.decode(autoencoder.encode(pixels))


def evaluate(args: argparse.Namespace, image_sets: dict[str, np.ndarray]) -> None:
    """Print a table of scores, and save reconstructions below their originals."""
    autoencoders = {"builtin": load("dc", args.output)}
    if args.taef1:
        autoencoders["TAEF1"] = load("tiny", args.taef1)
    autoencoders["patch PCA"] = patch_pca(TrainingImages(args.font, args.seed).batch(PCA_CROPS))
    print(table(autoencoders, image_sets))
    if args.sheets:
        args.sheets.mkdir(parents=True, exist_ok=True)
        for name, images in image_sets.items():
            chosen = images[:: max(1, len(images) // COMPARED)][:COMPARED]
            comparison(autoencoders["builtin"], chosen).save(args.sheets / f"{name}.png")


def main() -> None:
    """Train or evaluate, as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__)
    option = parser.add_argument
    option("--font", type=Path, required=True, help="NotoColorEmoji.ttf, the bitmap version")
    option("--output", type=Path, required=True, help="folder of the weights")
    option("--judge", type=Path, nargs="*", default=[], help="folders of Parquet images")
    option("--steps", type=int, default=4500)
    option("--batch-size", type=int, default=8)
    option("--seed", type=int, default=0)
    option("--evaluate", action="store_true", help="score the weights instead of training them")
    option("--taef1", type=Path, help="with --evaluate: folder of TAEF1 to compare with")
    option("--sheets", type=Path, help="with --evaluate: folder for comparisons to look at")
    args = parser.parse_args()
    torch.set_num_threads(1)
    image_sets = holdout(args.font) | {folder.name: parquet_images(folder) for folder in args.judge}
    (evaluate if args.evaluate else train)(args, image_sets)


if __name__ == "__main__":
    main()
