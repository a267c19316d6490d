"""The stage evaluate: scores of a folder of samples, each beside its floor.

| score | of | against |
|---|---|---|
| fd, kid, precision, recall, density, coverage | samples | holdout |
| reconstruction_fd, reconstruction_kid | holdout through the autoencoder | holdout |
| train_fd, train_kid | as many training pictures as samples, through it | holdout |
| class_accuracy | samples, as the class that was asked for | |
| probe_accuracy, probe_scrambled_accepted | holdout through it, intact and scrambled | |
| memorized_share | samples | nearest training pictures |

The holdout is compared as it is; everything else has been through the autoencoder. train_fd and
train_kid are what real pictures get in the samples' place: a generator that does better copies.
reconstruction_kid compares pictures with themselves: without chance it can fall well below 0.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from liquidgen.compute.distributed import SINGLE_PROCESS, World
from liquidgen.config.settings import EvaluateSettings
from liquidgen.images.raw import RawDataset
from liquidgen.latents.manifest import read_manifest
from liquidgen.stages.evaluate import scores
from liquidgen.stages.evaluate.class_probe import scramble
from liquidgen.stages.evaluate.feature_extraction import FeatureExtractor
from liquidgen.stages.evaluate.figures import draw_neighbors, write_accuracies
from liquidgen.stages.evaluate.labeled_features import LabeledFeatures
from liquidgen.stages.evaluate.scores import EvaluationFeatures, Scores
from liquidgen.utils.errors import UserError
from liquidgen.utils.files import new_folder, write_json

PROBE_LIMIT = 3072  # training pictures that the probe is fitted to, drawn at random
SHOWN, SHOWN_NEIGHBORS = 12, 5  # rows and columns of neighbors.png


def evaluate(
    samples_folder: Path,
    raw_folder: Path,
    latents_folder: Path,
    folder: Path,
    *,
    settings: EvaluateSettings,
    device: str | torch.device,
    world: World = SINGLE_PROCESS,
) -> Scores | None:
    """Score samples; pictures and tables go to `folder`, which is replaced.

    Unconditional data have no class scores. In a world of several processes each looks at its
    share of the pictures, and the first one scores.

    Raises:
        UserError: there are too few pictures for the settings, or the folders do not fit.
    """
    samples, raw = RawDataset(samples_folder), RawDataset(raw_folder)
    if samples.classes != raw.classes:
        raise UserError(f"{samples_folder}: other classes than {raw_folder}; run `dvc repro`")
    manifest = read_manifest(latents_folder)
    num_train = manifest.splits["train"].count
    _check_counts(samples.counts["samples"], num_train, raw.counts["holdout"], settings)
    _check_latents(samples, manifest.digest, latents_folder)
    gallery = FeatureExtractor(
        latents_folder, batch_size=settings.batch_size, device=device, world=world
    )
    order = np.random.default_rng(settings.seed).permutation(len(gallery.train))
    all_features = _look(gallery, samples, raw, order, world)
    if not world.is_main:
        return None
    found = scores.neighbors(all_features, SHOWN_NEIGHBORS)
    figures = scores.distances(all_features, settings) | {"memorized_share": found.memorized_share}
    with new_folder(folder) as temporary:
        rows = found.ratios[:, 0].argsort()[:SHOWN]
        draw_neighbors(
            temporary / "neighbors.png",
            samples=gallery.show_files(samples, "samples", rows.tolist()),
            neighbors=[gallery.show(gallery.train, order[found.indices[row]]) for row in rows],
            ratios=found.ratios[rows, 0],
        )
        if raw.classes is not None:
            scrambled = _look_scrambled(gallery, order, settings.seed)
            known = LabeledFeatures(
                all_features.train.features[:PROBE_LIMIT], all_features.train.labels[:PROBE_LIMIT]
            )
            accepted = scores.accepted(all_features, known, *scrambled, len(raw.classes))
            figures |= scores.class_scores(accepted)
            write_accuracies(temporary, raw.classes, accepted)
    return Scores(figures, _protocol(all_features, gallery, samples, settings))


def write_scores(path: Path, scores: Scores) -> None:
    """Write scores and protocol as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, {**scores.values, "protocol": scores.protocol})


def _check_counts(samples: int, train: int, holdout: int, settings: EvaluateSettings) -> None:
    """Refuse what cannot be scored, all at once, before anything slow is done."""
    least = min(samples, train, holdout)
    limits = {"kid_subset_size": least, "nearest_k": least - 1}
    beyond = [
        f"evaluate.{key} is {value}, but may be at most {limit}"
        for key, limit in limits.items()
        if (value := getattr(settings, key)) > limit
    ]
    if beyond:
        raise UserError(
            f"evaluate: {samples} samples, {train} training and {holdout} holdout images are too "
            f"few: {'; '.join(beyond)}; lower it, or raise sample.num_images or the dataset's "
            "holdout_fraction"
        )


def _check_latents(samples: RawDataset, digest: str, latents_folder: Path) -> None:
    if samples.info.sampling["latents_digest"] != digest:
        raise UserError(
            f"{samples.folder}: from a model of other latents than {latents_folder} now holds; "
            "run `dvc repro`"
        )


def _look(
    gallery: FeatureExtractor, samples: RawDataset, raw: RawDataset, order: np.ndarray, world: World
) -> EvaluationFeatures:
    seen = gallery.files(samples, "samples")
    if world.is_main and len(seen.labels) != samples.counts["samples"]:
        raise UserError(f"{samples.folder}: not all samples are readable; run `dvc repro sample`")
    return EvaluationFeatures(
        samples=seen,
        holdout=gallery.files(raw, "holdout"),
        reconstructed=gallery.all_latents(gallery.holdout, np.arange(len(gallery.holdout))),
        train=gallery.all_latents(gallery.train, order),
    )


def _look_scrambled(
    gallery: FeatureExtractor, order: np.ndarray, seed: int
) -> tuple[LabeledFeatures, LabeledFeatures]:
    """Half as many scrambled training pictures, to fit the probe to, and the scrambled holdout."""
    generator = torch.Generator().manual_seed(seed)

    def change(latents: torch.Tensor) -> torch.Tensor:
        return scramble(latents, generator)

    train = gallery.latents(gallery.train, order[: (min(len(order), PROBE_LIMIT) + 1) // 2], change)
    return train, gallery.latents(gallery.holdout, np.arange(len(gallery.holdout)), change)


def _protocol(
    all_features: EvaluationFeatures,
    gallery: FeatureExtractor,
    samples: RawDataset,
    settings: EvaluateSettings,
) -> dict[str, Any]:
    """What every score must be read with."""
    return {
        "samples_of": samples.info.origin,
        "num_samples": len(all_features.samples.labels),
        "num_compared": scores.compared(all_features),  # samples in the distances
        "reference_split": "holdout",
        "num_reference": len(all_features.holdout.labels),
        "num_train": len(all_features.train.labels),
        "feature_network": gallery.network.name,
        "feature_digest": gallery.network.digest,
        "autoencoder_digest": gallery.contract.autoencoder_digest,
        "image_size": gallery.contract.image_size,
        "sampling": samples.info.sampling,
        "settings": settings.model_dump(),
    }
