"""Feature networks for evaluate: does a score grow with damage, and fall with longer training?

    OMP_NUM_THREADS=1 python -m benchmarks.features data/raw/procedural-64 --samples A B C

For each network, and for each of fd, fd_pca and kid: images of the first of two random halves are
damaged in four strengths, and compared with the second. Counted is how often a stronger damage has
the worse score, of all pairs of neighboring strengths in several draws of the halves; chance is
0.5. The damages: blur (0.5 to 2 px), noise (8 to 32 of 255), the images of a tenth to four tenths
blended half and half with one of another class, and only 80% to 20% of the classes, repeated. Of
folders of samples, from the shortest training to the longest, each is compared with real images.
The seconds are of one core, per image.
"""

import argparse
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageFilter

from liquidgen.config.params import load_params
from liquidgen.config.settings import EvaluateSettings
from liquidgen.features import FEATURE_NETWORKS, FeatureNetwork, load_feature_network
from liquidgen.images.decode import decode
from liquidgen.images.raw import RawDataset
from liquidgen.images.transform import ImageTransform
from liquidgen.stages.evaluate.metrics import principal_components
from liquidgen.stages.evaluate.scores import NUM_COMPONENTS, feature_distances
from liquidgen.utils.errors import UserError

STRENGTHS = (1, 2, 3, 4)
SCORES = ("fd", "fd_pca", "kid")
BATCH = 64
MIN_CLASSES = 5  # so that each strength loses another one


class Images:
    """Images (N, S, S, 3) as encode would see them, and their labels."""

    def __init__(self, folder: Path, split: str, transform: ImageTransform, most: int) -> None:
        records = list(RawDataset(folder).records(split))
        chosen = np.random.default_rng(0).permutation(len(records))[:most]
        self.pixels = np.stack([decode(records[i].data, transform, (i,)).pixels for i in chosen])
        self.labels = np.array([records[i].label for i in chosen])


def blurred(pixels: np.ndarray, labels: np.ndarray, strength: int) -> np.ndarray:
    """Blur by a normal distribution of 0.5 px per strength."""
    blur = ImageFilter.GaussianBlur(0.5 * strength)
    return np.stack([np.asarray(Image.fromarray(one).filter(blur)) for one in pixels])


def noisy(pixels: np.ndarray, labels: np.ndarray, strength: int) -> np.ndarray:
    """Add normally distributed noise of 8 of 255 per strength."""
    noise = np.random.default_rng(0).normal(scale=8 * strength, size=pixels.shape)
    return (pixels + noise).round().clip(0, 255).astype(np.uint8)


def blended(pixels: np.ndarray, labels: np.ndarray, strength: int) -> np.ndarray:
    """Blend a tenth of the images per strength with images of other classes."""
    changed = pixels.copy()
    rng = np.random.default_rng(0)
    for i in range(len(pixels) * strength // 10):
        other = pixels[rng.choice(np.flatnonzero(labels != labels[i]))]
        changed[i] = (pixels[i].astype(int) + other) // 2
    return changed


def narrowed(pixels: np.ndarray, labels: np.ndarray, strength: int) -> np.ndarray:
    """Keep a fifth of the classes less per strength, repeated to as many images."""
    classes = np.unique(labels)
    kept = classes[: max(1, round(len(classes) * (1 - 0.2 * strength)))]
    return pixels[np.resize(np.flatnonzero(np.isin(labels, kept)), len(pixels))]


DAMAGES: dict[str, Callable[[np.ndarray, np.ndarray, int], np.ndarray]] = {
    "blur": blurred,
    "noise": noisy,
    "blended classes": blended,
    "lost classes": narrowed,
}


class Judge:
    """A feature network, and the scores that evaluate computes of its features."""

    def __init__(self, network: FeatureNetwork, settings: EvaluateSettings) -> None:
        self.network = network
        self.settings = settings
        self.seconds = 0.0
        self.seen = 0

    def features(self, pixels: np.ndarray) -> torch.Tensor:
        """Compute the features of images."""
        began = time.process_time()
        parts = torch.from_numpy(pixels.copy()).permute(0, 3, 1, 2).split(BATCH)
        features = torch.cat([self.network(part.float() / 127.5 - 1) for part in parts])
        self.seconds += time.process_time() - began
        self.seen += len(pixels)
        return features

    def scores(
        self, sets: Sequence[torch.Tensor], reference: torch.Tensor
    ) -> list[dict[str, float]]:
        """Compare features with those of real images, whose principal components are taken."""
        components = principal_components(reference, NUM_COMPONENTS)
        return [feature_distances(one, reference, components, self.settings) for one in sets]


def ordered(scores: list[dict[str, float]]) -> dict[str, list[bool]]:
    """Return of each score whether each value is above the one before."""
    return {name: [b[name] > a[name] for a, b in pairwise(scores)] for name in SCORES}


def halves(count: int, draws: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield random halves of the numbers below `count`."""
    for seed in range(draws):
        order = np.random.default_rng(seed).permutation(count)
        yield order[: count // 2], order[count // 2 :]


def of_damages(judge: Judge, images: Images, draws: int) -> Iterator[tuple[str, dict]]:
    """Yield each damage, and of each score whether its values were in order."""
    intact = judge.features(images.pixels)
    for name, damage in DAMAGES.items():
        found = {score: [] for score in SCORES}
        for rows, others in halves(len(intact), draws):
            pixels, labels = images.pixels[rows], images.labels[rows]
            damaged = [judge.features(damage(pixels, labels, s)) for s in STRENGTHS]
            values = judge.scores([intact[rows], *damaged], intact[others])
            for score, in_order in ordered(values).items():
                found[score] += in_order
        yield name, found


def main() -> None:
    """Print a table per network."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.features",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    option = parser.add_argument
    option("raw", type=Path, help="folder of real images in the raw format, such as data/raw/NAME")
    option("--samples", type=Path, nargs="*", default=[], help="the shortest training first")
    option("--networks", nargs="+", default=["builtin", "efficientnet_lite0"])
    option("--side", type=int, default=64, help="of the images, px")
    option("--images", type=int, default=1000, help="most real images")
    option("--draws", type=int, default=3, help="random halves")
    options = parser.parse_args()
    if unknown := set(options.networks) - set(FEATURE_NETWORKS):
        raise UserError(f"--networks: {min(unknown)}: choose of {', '.join(FEATURE_NETWORKS)}")
    torch.set_num_threads(1)
    params = load_params()
    settings = params.evaluate
    transform = ImageTransform.of(params.encode, options.side)
    images = Images(options.raw, "train", transform, options.images)
    least = 2 * settings.kid_subset_size
    if len(images.pixels) < least or len(set(images.labels) - {None}) < MIN_CLASSES:
        raise UserError(f"{options.raw}: need {least} images of {MIN_CLASSES} classes or more")
    trained = [Images(one, "samples", transform, options.images) for one in options.samples]
    print("| network | seconds per image | test | " + " | ".join(SCORES) + " |")
    print("|---|---|---|" + "---|" * len(SCORES))
    for name in options.networks:
        judge = Judge(load_feature_network(name, "cpu"), settings)
        rows = list(of_damages(judge, images, options.draws))
        if len(trained) > 1:
            reference = judge.features(images.pixels)
            values = judge.scores([judge.features(one.pixels) for one in trained], reference)
            rows.append(("shorter training", ordered(values[::-1])))
        for test, found in rows:
            shares = [f"{sum(found[score])}/{len(found[score])}" for score in SCORES]
            print(f"| {name} | {judge.seconds / judge.seen:.4f} | {test} | {' | '.join(shares)} |")


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        raise SystemExit(f"error: {error}") from None
