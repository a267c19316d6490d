"""Train the feature network of the evaluation.

python scripts/train_features.py --font /usr/share/fonts/truetype/noto/NotoColorEmoji.ttf
"""

import argparse
import json
import time
from pathlib import Path

import feature_tasks as tasks
import numpy as np
import torch
from autoencoder_images import glyphs, on_color, on_white, paintings, photographs, pyramid
from safetensors.torch import save
from torch import nn
from torch.nn.functional import cross_entropy, mse_loss
from tqdm import tqdm

from liquidgen.features.builtin import WEIGHTS_FOLDER, BuiltinFeatures
from liquidgen.stages.download.procedural import STYLES

CONFIG = {
    "name": "builtin",
    "input_side": 64,
    "widths": (32, 64, 96),
    "layout_channels": 24,
    "num_features": 128,
}
SIDE = CONFIG["input_side"]
SEED = 0  # of the training
TRAIN_SEED = 3_000_000  # first seed of the paintings
HOLDOUT_SEED = 4_000_000
PAINTINGS = 5000
CROPS = 60  # per photograph
HOLDOUT = 500  # paintings
STEPS = 900
BATCH = 64
LEARNING_RATE = 4e-3
WEIGHT_DECAY = 0.02
PAINTED = 0.5  # share of a batch
PHOTOGRAPHED = 0.3  # share of a batch; the rest is emoji
SCRAMBLED = 0.35  # probability per image
DAMAGED = 0.3  # probability per image and damage
SMALLEST = 0.8  # side of a crop, relative to the image
WEIGHTS = {"source": 0.5, "scramble": 1, "damage": 16, "appearance": 4, "correlation": 0.05}


class Bank:
    """Images in memory, each with its source, a class.

    A source is a style of painting, or one crop of a photograph or one glyph, each a class of its
    own (Dosovitskiy et al. 2014).
    """

    def __init__(self, font):
        self.rng = rng = np.random.default_rng(SEED)
        photos = list({photo.tobytes(): photo for photo in photographs()}.values())
        crops = [crop for photo in photos for crop in windows(list(pyramid(photo)), rng)]
        symbols = glyphs(font)
        drawn = [view for g in symbols for view in (on_white(g), on_color(g, rng))]
        self.kinds = [paintings(PAINTINGS, TRAIN_SEED), np.stack(crops), np.stack(drawn)]
        first_symbol = len(STYLES) + len(crops)
        self.sources = [
            np.arange(PAINTINGS) % len(STYLES),
            np.arange(len(STYLES), first_symbol),
            np.repeat(np.arange(len(symbols)), 2) + first_symbol,
        ]
        self.num_sources = first_symbol + len(symbols)

    def batch(self, count):
        """Return pixels (count, 3, S, S) in [-1, 1] and sources (count,)."""
        painted, photographed = int(PAINTED * count), int(PHOTOGRAPHED * count)
        counts = (painted, photographed, count - painted - photographed)
        rows = [self.rng.integers(len(k), size=n) for k, n in zip(self.kinds, counts, strict=True)]
        images = np.concatenate([k[r] for k, r in zip(self.kinds, rows, strict=True)])
        sources = np.concatenate([s[r] for s, r in zip(self.sources, rows, strict=True)])
        order = self.rng.permutation(count)
        return to_pixels(images[order]), torch.from_numpy(sources[order])


def windows(levels, rng):
    """Yield CROPS random squares of random levels of a photograph's pyramid."""
    for _ in range(CROPS):
        image = levels[rng.integers(len(levels))]
        top, left = (rng.integers(size - SIDE + 1) for size in image.shape[:2])
        yield image[top : top + SIDE, left : left + SIDE]


def to_pixels(images):
    """Convert uint8 (N, H, W, 3) to float (N, 3, H, W) in [-1, 1]."""
    return torch.from_numpy(images).permute(0, 3, 1, 2).float() / 127.5 - 1


def spoil(pixels, generator):
    """Damage images; return them, the scramble class (B,) and the strengths (B, 5)."""
    count = len(pixels)
    kinds = len(tasks.BLOCK_SIDES)
    picked = torch.randint(1, kinds + 1, (count,), generator=generator)
    scrambled = picked * (torch.rand(count, generator=generator) < SCRAMBLED)
    for kind, side in enumerate(tasks.BLOCK_SIDES, start=1):
        chosen = scrambled == kind
        if chosen.any():
            pixels[chosen] = tasks.scramble(pixels[chosen], side, generator)
    shape = (count, len(tasks.DAMAGES))
    strengths = torch.rand(shape, generator=generator)
    strengths *= torch.rand(shape, generator=generator) < DAMAGED
    for strength, damage in zip(strengths.T, tasks.DAMAGES.values(), strict=True):
        pixels = damage(pixels, strength, generator)
    return pixels.clamp(-1, 1), scrambled, strengths


class Student(nn.Module):
    """The feature network with one linear head per task: tasks are directions of the features."""

    def __init__(self, num_sources):
        super().__init__()
        self.network = BuiltinFeatures(**CONFIG)
        sizes = {
            "source": num_sources,
            "scramble": len(tasks.BLOCK_SIDES) + 1,
            "damage": len(tasks.DAMAGES),
            "appearance": 272,
        }
        heads = {name: nn.Linear(CONFIG["num_features"], size) for name, size in sizes.items()}
        self.heads = nn.ModuleDict(heads)

    def losses(self, pixels, sources, generator):
        """Return the loss of each task on a batch with new damages."""
        clean = tasks.recolor(tasks.crop(pixels, SMALLEST, generator), generator)
        pixels, scrambled, strengths = spoil(clean, generator)
        features = self.network(pixels.contiguous(memory_format=torch.channels_last))
        outputs = {name: head(features) for name, head in self.heads.items()}
        intact = (scrambled == 0) & (strengths[:, :2].amax(1) < 0.5)
        correlation = features.T @ features / len(features)
        return {
            "source": cross_entropy(
                outputs["source"][intact], sources[intact], label_smoothing=0.05
            ),
            "scramble": cross_entropy(outputs["scramble"], scrambled),
            "damage": mse_loss(outputs["damage"], strengths),
            "appearance": mse_loss(outputs["appearance"], tasks.appearance(pixels)),
            "correlation": (correlation - torch.eye(len(correlation))).square().sum(1).mean(),
        }


def train(bank, steps):
    """Train a student on the bank."""
    torch.manual_seed(SEED)
    generator = torch.Generator().manual_seed(SEED)
    student = Student(bank.num_sources).to(memory_format=torch.channels_last)
    matrices = [p for p in student.parameters() if p.ndim > 1]
    vectors = [p for p in student.parameters() if p.ndim == 1]
    groups = [{"params": matrices}, {"params": vectors, "weight_decay": 0}]
    optimizer = torch.optim.AdamW(groups, lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, LEARNING_RATE, total_steps=steps, pct_start=0.1
    )
    progress = tqdm(range(steps), unit="step", mininterval=10)
    for step in progress:
        losses = student.losses(*bank.batch(BATCH), generator)
        optimizer.zero_grad()
        sum(WEIGHTS[name] * loss for name, loss in losses.items()).backward()
        optimizer.step()
        schedule.step()
        if step % 50 == 0:
            progress.set_postfix({name: f"{loss:.3f}" for name, loss in losses.items()})
    return student.eval()


@torch.no_grad()
def examine(student):
    """Score on paintings of unseen seeds: accuracies, and shares of variance explained."""
    generator = torch.Generator().manual_seed(HOLDOUT_SEED)
    pixels = to_pixels(paintings(HOLDOUT, HOLDOUT_SEED))
    sources = torch.arange(HOLDOUT) % len(STYLES)
    predicted = student.heads["source"](student.network(pixels)).argmax(1)
    scores = {"source": (predicted == sources).float().mean()}
    pixels, scrambled, strengths = spoil(pixels, generator)
    features = student.network(pixels)
    predicted = student.heads["scramble"](features).argmax(1)
    scores["scramble"] = (predicted == scrambled).float().mean()
    scores["scrambled or not"] = ((predicted > 0) == (scrambled > 0)).float().mean()
    errors = (student.heads["damage"](features) - strengths).var(0) / strengths.var(0)
    scores |= dict(zip(tasks.DAMAGES, 1 - errors, strict=True))
    return {name: round(score.item(), 3) for name, score in scores.items()}


def main():
    """Train, score and save the feature network."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--font", type=Path, required=True, help="NotoColorEmoji.ttf (CBDT)")
    parser.add_argument("--output", type=Path, default=WEIGHTS_FOLDER)
    parser.add_argument("--steps", type=int, default=STEPS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    start = time.perf_counter()
    bank = Bank(arguments.font)
    print(f"{sum(map(len, bank.kinds))} images in {time.perf_counter() - start:.0f} s")
    student = train(bank, arguments.steps)
    print(f"{examine(student)}, {time.perf_counter() - start:.0f} s")
    state = student.network.state_dict().items()
    weights = {name: value.half().contiguous() for name, value in state if value.ndim}
    arguments.output.mkdir(parents=True, exist_ok=True)
    (arguments.output / "features.safetensors").write_bytes(save(weights))
    (arguments.output / "config.json").write_text(json.dumps(CONFIG, indent=2) + "\n")


if __name__ == "__main__":
    main()
