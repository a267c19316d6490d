"""What a model learns from few images: scores and copies by set size and length of training.

    OMP_NUM_THREADS=1 python -m benchmarks.small_data data/raw/NAME work/small-data

Trains the model of params.yaml on nested subsets of the training images, each with the classes in
their proportions, until it has seen the given numbers of images, mirrored ones and repetitions
included. Every model is scored against the same holdout; copies are searched among its own training
images, and the classifier of class_accuracy is trained on them. `--set` replaces settings of
params.yaml. What is done stays in the folder: run again, with more sizes or lengths, it goes on.
"""

import argparse
import json
import math
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL.Image import Image

from benchmarks.preparation import changes, check_settings, encode_raw, run_command
from liquidgen.config.params import UNTRACKED, Params, load_params
from liquidgen.generator.pretrained import load_pretrained
from liquidgen.images.raw import RawDataset, RawWriter
from liquidgen.latents.shards import LatentDataset
from liquidgen.stages.evaluate.evaluate import evaluate
from liquidgen.stages.sample.sample import sample
from liquidgen.stages.train.export import export
from liquidgen.stages.train.run_state import prepare_training
from liquidgen.stages.train.trainer import Trainer
from liquidgen.utils.files import new_folder, write_json

CPU = torch.device("cpu")
COLUMNS = {
    "seen": "{:,}",
    "epochs": "{:,}",
    "validation_loss": "{:.3f}",
    "class_accuracy": "{:.2f}",
    "kid": "{:.2f}",
    "recall": "{:.2f}",
    "copied_share": "{:.2f}",
}


def subset(labels: Sequence[int | None], count: int) -> list[int]:
    """Choose images in the proportions of their classes, the fewest of a class being 2.

    A larger subset holds each smaller one.
    """
    by_class = defaultdict(list)
    for number in np.random.default_rng(0).permutation(len(labels)):
        by_class[labels[number]].append(int(number))
    share = count / len(labels)
    return sorted(
        number for own in by_class.values() for number in own[: max(2, round(share * len(own)))]
    )


def write_subset(raw_folder: Path, folder: Path, count: int, params: Params) -> None:
    """Write a subset of the training images and the whole holdout, in the raw format."""
    raw = RawDataset(raw_folder)
    train = list(raw.records("train"))
    with (
        new_folder(folder) as temporary,
        RawWriter(temporary, raw.info.classes, params.download.max_file_mb) as writer,
    ):
        for number in subset([record.label for record in train], count):
            writer.add("train", train[number])
        for record in raw.records("holdout"):
            writer.add("holdout", record)
        writer.finish(license=raw.info.license, origin=raw.info.origin, revision=None, refused={})


class Silent:
    """A logger that ignores all."""

    def log_metrics(self, metrics: dict[str, float], step: int) -> None:
        """Ignore metrics."""

    def log_image(self, image: Image, key: str, step: int) -> None:
        """Ignore an image."""


def measure(folder: Path, params: Params, seen: int) -> dict[str, float]:
    """Train until the model has seen this many images, and score it; returns a row."""
    size = params.train.batch_size
    steps_per_epoch = len(LatentDataset(folder / "latents", "train")) // size
    # without a whole batch `prepare_training` refuses
    epochs = math.ceil(seen / (max(1, steps_per_epoch) * size))
    # validation alone takes longer than a short epoch
    length = {"num_epochs": epochs, "validate_every": max(1, epochs // 4), "preview_every": 0}
    address = params.train.init_from
    training = prepare_training(
        folder / "latents",
        folder / "train",
        model=params.model,
        block=params.selectors.block,
        block_settings=params.block,
        settings=params.train.model_copy(update=length),
        pretrained=load_pretrained(address) if address else None,
    )
    with training.locked():
        trainer = Trainer(training, CPU)
        trainer.run(Silent())
    point = folder / str(seen)
    export(trainer, point / "model", point, name=folder.name, run_id="")
    sample(point / "model", point / "samples", settings=params.sample, device=CPU)
    scores = evaluate(
        point / "samples",
        folder / "raw",
        folder / "latents",
        point / "evaluation",
        settings=params.evaluate,
        device=CPU,
        cache_folder=folder / "cache",
    )
    losses = json.loads((point / "train.json").read_bytes())
    return losses | scores.values | {"seen": training.last_step * size, "epochs": epochs}


def main() -> None:
    """Print a table, a row per set size and length."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.small_data",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("raw", type=Path, help="folder of the stage download")
    parser.add_argument("folder", type=Path, help="of subsets, trainings and results")
    parser.add_argument("--images", type=int, nargs="+", default=[50, 200, 1000, 5000])
    parser.add_argument("--seen", type=int, nargs="+", default=[64_000, 128_000, 256_000])
    parser.add_argument(
        "--set", nargs="+", default=[], metavar="KEY=VALUE", help="other values of params.yaml"
    )
    options = parser.parse_args()
    torch.set_num_threads(1)
    params = load_params(changes=changes(options.set))
    settings = {
        key: value for key, value in params.flat().items() if key.split(".")[0] not in UNTRACKED
    }
    settings["raw"] = RawDataset(options.raw).info.digest
    check_settings(options.folder / "settings.json", settings)

    print(f"| images | {' | '.join(COLUMNS)} |")
    print("|---|" + "---|" * len(COLUMNS))
    for count in options.images:
        folder = options.folder / str(count)
        if not (folder / "raw").exists():
            write_subset(options.raw, folder / "raw", count, params)
        if not (folder / "latents").exists():
            encode_raw(folder, params)
        for seen in sorted(options.seen):
            result = folder / f"{seen}.json"
            if not result.exists():
                write_json(result, measure(folder, params, seen))
            row = json.loads(result.read_bytes())
            # data without classes have no accuracy
            cells = (form.format(row[key]) if key in row else "" for key, form in COLUMNS.items())
            print(f"| {count:,} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    run_command(main)
