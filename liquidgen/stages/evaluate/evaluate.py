"""Stage evaluate: scores of a folder of samples, each beside its floor and its ceiling.

| score | of | against |
|---|---|---|
| fd, fd_pca, kid, precision, recall, density, coverage | samples | holdout |
| reconstruction_fd, reconstruction_fd_pca, reconstruction_kid | reconstructed holdout | holdout |
| class_accuracy | samples, as the class that was asked for | |
| probe_accuracy, probe_scrambled_accepted | reconstructed holdout, intact and scrambled | |
| copied_share, reconstruction_copied_share | samples, reconstructed holdout | training images |

"Reconstructed" means encoded and decoded by the autoencoder, as samples are decoded; the holdout is
compared as it is. `train_<score>` is what as many real images get in the samples' place: training
images, reconstructed. A generator with a better distance copies. `noise_<score>` is what decoded
noise gets, and `<score>_tells_noise` whether the score can tell it from real images. The accuracy
of real images is probe_accuracy. reconstruction_kid compares images with themselves: the two sets
are not independent, so it can be well below 0.
"""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from liquidgen.compute.distributed import SINGLE_PROCESS, World
from liquidgen.config.image_counts import too_few_images
from liquidgen.config.settings import EvaluateSettings
from liquidgen.images.raw import RawDataset
from liquidgen.latents.manifest import SPLITS, read_manifest
from liquidgen.latents.shards import LatentDataset, verify
from liquidgen.stages.evaluate.class_probe import scramble
from liquidgen.stages.evaluate.feature_cache import FeatureCache
from liquidgen.stages.evaluate.feature_extraction import FeatureExtractor, LabeledFeatures
from liquidgen.stages.evaluate.figures import draw_neighbors, write_accuracies
from liquidgen.stages.evaluate.metrics import Neighbors, copy_ratios
from liquidgen.stages.evaluate.result import Scores
from liquidgen.stages.evaluate.scores import (
    NUM_NEIGHBORS,
    EvaluationFeatures,
    class_scores,
    compute_scores,
    copied_shares,
    probe_results,
)
from liquidgen.utils.errors import UserError
from liquidgen.utils.files import new_folder

PROBE_IMAGES = 3072  # training images that the probe is fitted to, in random order
NEIGHBOR_ROWS = 12  # samples in neighbors.png
DIGITS = 12  # of digests in the protocol: `dvc metrics diff` shows two side by side


def evaluate(
    samples_folder: Path,
    raw_folder: Path,
    latents_folder: Path,
    folder: Path,
    *,
    settings: EvaluateSettings,
    device: str | torch.device,
    world: World = SINGLE_PROCESS,
    cache_folder: Path | None = None,
) -> Scores | None:
    """Score samples, and write figures and tables.

    Unlabeled data have no class scores. In a world of several processes each extracts the features
    of its shard of the images, and the main process computes the scores.

    Args:
        samples_folder: Samples in the raw format.
        raw_folder: Raw images, whose holdout is the reference.
        latents_folder: Their latents.
        folder: Folder of figures and tables, which is replaced.
        settings: Section `evaluate` of params.yaml.
        device: Device of the networks.
        world: Processes of this stage.
        cache_folder: Folder that keeps features of all but the samples for later evaluations; None:
            they are not kept.

    Returns:
        The scores, in the main process; None in the others.

    Raises:
        UserError: There are too few images for the settings, or the folders do not belong together.
    """
    # check the inputs before anything slow
    samples = RawDataset(samples_folder)
    raw = RawDataset(raw_folder)
    if world.is_main:
        samples.verify("samples")
        raw.verify("holdout")
        verify(latents_folder)
    world.barrier()
    if samples.classes != raw.classes:
        raise UserError(f"{samples_folder}: other classes than {raw_folder}; run `dvc repro`")
    manifest = read_manifest(latents_folder)
    # images of the holdout that encode skipped are no reference either
    train, holdout = (manifest.num_originals(name) for name in SPLITS)
    count = samples.counts["samples"]
    if refusal := too_few_images(settings, samples=count, train=train, holdout=holdout):
        raise UserError(refusal)
    _check_latents(samples, manifest.digest, latents_folder)

    # extract features, in all processes
    extractor = FeatureExtractor(
        latents_folder,
        network=settings.features,
        batch_size=settings.batch_size,
        device=device,
        world=world,
    )
    order = _random_order(extractor, settings.seed)
    images = {"latents": manifest.digest, "raw": raw.info.digest, "seed": settings.seed}
    cache = FeatureCache(
        cache_folder, extractor, network=settings.features, inputs=images, world=world
    )
    features = _extract_features(extractor, cache, samples, raw, order, settings.seed, world)
    if not world.is_main:
        return None

    # compute the scores, and write figures and tables
    comparisons = features.comparisons()
    values, intervals = compute_scores(comparisons, settings)
    neighbors = features.neighbors()
    copied = copied_shares(neighbors)
    values |= copied.values
    intervals |= copied.intervals
    with new_folder(folder) as temporary:
        _draw_neighbors(temporary / "neighbors.png", extractor, neighbors[""], samples, order)
        if raw.classes is not None:
            probe_train = LabeledFeatures(*(column[:PROBE_IMAGES] for column in features.train))
            scrambled = _extract_scrambled(extractor, cache, order, settings.seed)
            results = probe_results(features, probe_train, *scrambled, len(raw.classes))
            of_classes = class_scores(results, settings.seed)
            values |= of_classes.values
            intervals |= of_classes.intervals
            write_accuracies(temporary, raw.classes, results)
    return Scores(values, intervals, _protocol(features, extractor, samples, settings))


def _check_latents(samples: RawDataset, digest: str, latents_folder: Path) -> None:
    """Check that these samples are of a model that was trained on these latents."""
    sampling = samples.info.sampling
    if sampling is None:
        raise UserError(f"{samples.folder}: not samples of a model; run `dvc repro sample`")
    if "num_inference_steps" not in sampling:
        raise UserError(f"{samples.folder}: drawn by an earlier version; run `dvc repro sample`")
    if sampling.get("latents_digest") != digest:
        raise UserError(
            f"{samples.folder}: from a model of other latents than {latents_folder} now holds; "
            "run `dvc repro`"
        )


def _random_order(extractor: FeatureExtractor, seed: int) -> np.ndarray:
    """Return the indices of the training images in random order, and then of their variants."""
    generator = np.random.default_rng(seed)
    originals = generator.permutation(extractor.train.manifest.num_originals("train"))
    variants = len(originals) + generator.permutation(len(extractor.train) - len(originals))
    return np.concatenate([originals, variants])


def _extract_features(
    extractor: FeatureExtractor,
    cache: FeatureCache,
    samples: RawDataset,
    raw: RawDataset,
    order: np.ndarray,
    seed: int,
    world: World,
) -> EvaluationFeatures:
    sample_features = extractor.from_files(samples, "samples")
    if world.is_main and len(sample_features.labels) != samples.counts["samples"]:
        extractor.check_readable(samples, "samples", "run `dvc repro -f -s sample`")
    holdout = extractor.holdout
    num_compared = min(samples.counts["samples"], extractor.train.manifest.num_originals("train"))

    def from_latents(name: str, dataset: LatentDataset, indices: np.ndarray) -> LabeledFeatures:
        extract = partial(extractor.from_latents, dataset, indices, name)
        return cache.get(name, len(indices), extract)

    return EvaluationFeatures(
        samples=sample_features,
        holdout=cache.get("holdout", len(holdout), lambda: extractor.from_files(raw, "holdout")),
        reconstructed=from_latents("reconstructed holdout", holdout, np.arange(len(holdout))),
        train=from_latents("training images", extractor.train, order),
        noise=cache.get("noise", num_compared, lambda: extractor.from_noise(num_compared, seed)),
        augmented_variants=extractor.contract.augmented_variants,
    )


def _extract_scrambled(
    extractor: FeatureExtractor, cache: FeatureCache, order: np.ndarray, seed: int
) -> tuple[LabeledFeatures, LabeledFeatures]:
    """Return features of scrambled training images, half as many as intact, and of the holdout."""

    def change(latents: torch.Tensor, numbers: np.ndarray) -> torch.Tensor:
        return scramble(latents, numbers.tolist(), seed)

    def scrambled(name: str, dataset: LatentDataset, indices: np.ndarray) -> LabeledFeatures:
        extract = partial(extractor.from_changed_latents, dataset, indices, name, change)
        return cache.get(name, len(indices), extract, together=False)

    some = order[: (min(len(order), PROBE_IMAGES) + 1) // 2]
    holdout = np.arange(len(extractor.holdout))
    return (
        scrambled("scrambled training images", extractor.train, some),
        scrambled("scrambled holdout", extractor.holdout, holdout),
    )


def _draw_neighbors(
    path: Path,
    extractor: FeatureExtractor,
    neighbors: Neighbors,
    samples: RawDataset,
    order: np.ndarray,
) -> None:
    """Draw the samples that are most likely copies of training images, beside these.

    Of all neighbors, it shows those at evenly spaced ranks, from the nearest to the last.
    """
    ratios = copy_ratios(neighbors.distances).numpy()
    shown = np.unique(np.linspace(0, neighbors.indices.shape[1] - 1, NUM_NEIGHBORS).astype(int))
    indices = neighbors.indices.numpy()[:, shown]
    rows = ratios.argsort()[:NEIGHBOR_ROWS]
    draw_neighbors(
        path,
        samples=extractor.read_images(samples, "samples", rows.tolist()),
        neighbors=[extractor.decode_images(extractor.train, order[indices[row]]) for row in rows],
        ratios=ratios[rows].tolist(),
    )


def _protocol(
    features: EvaluationFeatures,
    extractor: FeatureExtractor,
    samples: RawDataset,
    settings: EvaluateSettings,
) -> dict[str, Any]:
    """Return the conditions under which scores are comparable."""
    return {
        "samples_of": samples.info.origin,
        "num_samples": len(features.samples.labels),
        "num_compared": features.num_compared,
        "reference_split": "holdout",
        "num_reference": len(features.holdout.labels),
        "num_train": len(features.train.labels),
        "augmented_variants": features.augmented_variants,
        "feature_network": extractor.network.name,
        "num_features": extractor.network.num_features,
        "feature_digest": extractor.network.digest[:DIGITS],
        "autoencoder_digest": extractor.contract.autoencoder_digest[:DIGITS],
        "image_size": extractor.contract.image_size,
        "sampling": {
            key: str(value)[:DIGITS] if key.endswith("_digest") else value
            for key, value in (samples.info.sampling or {}).items()
        },
        "settings": settings.model_dump(),
    }
