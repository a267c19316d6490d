"""Stage evaluate on small real data: procedural paintings, encoded and scored."""

import csv
import io
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers.checkout import encoded
from helpers.damage import flip_a_bit
from helpers.features import NETWORKS
from helpers.small_data import painted, prepared, procedural
from PIL import Image

from liquidgen.config.params import load_params
from liquidgen.config.settings import (
    AutoencoderSettings,
    EvaluateSettings,
    FolderSettings,
)
from liquidgen.figures.grid import to_images
from liquidgen.images.decode import decode
from liquidgen.images.raw import RawDataset, RawWriter, Record
from liquidgen.images.transform import ImageTransform
from liquidgen.latents.autoencoder import load_autoencoder
from liquidgen.latents.manifest import read_manifest
from liquidgen.latents.shards import LatentDataset
from liquidgen.stages.download.procedural import STYLES, draw
from liquidgen.stages.evaluate.evaluate import evaluate
from liquidgen.utils.errors import UserError
from liquidgen.utils.files import new_folder

SIDE, NUM_IMAGES, NUM_SAMPLES = 64, 300, 60
CLASSES = tuple(STYLES)
SAMPLING = {"solver": "euler", "num_inference_steps": 50, "guidance_scale": 2.0, "seed": 0}
BUILTIN = AutoencoderSettings(**load_params().raw["autoencoders"]["builtin"])
SETTINGS = EvaluateSettings(
    features="builtin", batch_size=64, nearest_k=3, kid_subset_size=30, kid_subsets=20, seed=0
)

TRANSFORM = ImageTransform(
    image_size=SIDE, crop="center", crop_seed=1, max_upscale=1.5, max_pixels=10_000_000
)


@pytest.fixture(scope="module")
def labeled(tmp_path_factory):
    dataset = procedural(num_images=NUM_IMAGES, render_size=SIDE, holdout_fraction=0.2)
    return prepared(tmp_path_factory.mktemp("labeled"), dataset, SIDE)


def write_samples(folder, images, labels, classes=CLASSES):
    """Write images as the stage sample does."""
    with new_folder(folder) as temporary, RawWriter(temporary, classes, 256) as writer:
        for i, (image, label) in enumerate(zip(images, labels, strict=True)):
            stream = io.BytesIO()
            image.save(stream, "png")
            writer.add("samples", Record(stream.getvalue(), f"{i}.png", label))
        info = {"license": "", "origin": "model m", "revision": None, "refused": {}}
        digest = read_manifest(folder.parent / "latents").digest
        writer.finish(**info, sampling=SAMPLING | {"latents_digest": digest})
    return folder


def decoded(latents):
    """Decode latents to images with the builtin autoencoder."""
    autoencoder = load_autoencoder(BUILTIN, "cpu")
    return to_images(autoencoder.decode(latents))


def score(data, samples, settings=SETTINGS, cache=None):
    folder = samples.parent / f"{samples.name}-evaluation"
    scores = evaluate(
        samples,
        data / "raw",
        data / "latents",
        folder,
        settings=settings,
        device="cpu",
        cache_folder=cache,
    )
    return scores, folder


@pytest.fixture(scope="module", params=NETWORKS)
def settings(request):
    return SETTINGS.model_copy(update={"features": request.param})


@pytest.fixture(scope="module")
def copies(labeled, settings):
    """Scores of decoded training images in place of samples."""
    latents, labels = LatentDataset(labeled / "latents", "train").batch(range(NUM_SAMPLES))
    images = decoded(latents)
    samples = write_samples(labeled / "copies", images, labels.tolist())
    return score(labeled, samples, settings)


@pytest.fixture(scope="module")
def noise(labeled, settings):
    """Scores of shuffled latents, decoded, in place of samples."""
    latents, labels = LatentDataset(labeled / "latents", "train").batch(range(NUM_SAMPLES))
    shuffled = latents.flatten(2)[:, :, np.random.default_rng(0).permutation(64)]
    images = decoded(shuffled.view_as(latents))
    return score(labeled, write_samples(labeled / "noise", images, labels.tolist()), settings)


def test_real_images_get_scores_of_real_images(copies):
    values = copies[0].values
    assert values["fd"] == pytest.approx(values["train_fd"], rel=0.5)
    assert values["kid"] == pytest.approx(values["train_kid"], abs=3 * values["kid_std"])
    assert values["reconstruction_fd"] < values["fd"]


def test_scrambled_images_get_worse_scores(copies, noise):
    real, bad = copies[0].values, noise[0].values
    assert bad["fd"] > 2 * real["fd"]
    assert bad["kid"] > real["kid"]
    assert bad["precision"] < real["precision"]
    assert bad["coverage"] < real["coverage"]


def test_decoded_noise_is_the_ceiling(copies):
    values = copies[0].values
    for name in ("fd", "kid"):
        assert values[f"noise_{name}"] > 2 * values[f"train_{name}"]
    for name in ("recall", "coverage", "class_accuracy"):
        assert values[f"noise_{name}"] < 0.5
    assert values["fd_tells_noise"] == values["class_accuracy_tells_noise"] == 1


def test_probe_accepts_real_and_rejects_scrambled_images(copies, noise):
    assert copies[0].values["probe_accuracy"] >= 0.98
    assert copies[0].values["probe_scrambled_accepted"] <= 0.05
    assert copies[0].values["class_accuracy"] >= 0.98
    assert noise[0].values["class_accuracy"] <= 0.1


def test_copies_of_training_images_are_found(copies):
    assert copies[0].values["copied_share"] == 1


def test_poor_copies_of_training_images_are_found(labeled, settings):
    """Whatever the feature network makes of their noise."""
    dataset = LatentDataset(labeled / "latents", "train")
    latents, labels = dataset.batch(range(NUM_SAMPLES))
    noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(0))
    poor = dataset.contract.denormalize(0.9 * dataset.contract.normalize(latents) + 0.1 * noise)
    samples = write_samples(labeled / "poor", decoded(poor), labels.tolist())
    scores, _ = score(labeled, samples, settings)
    assert scores.values["copied_share"] > 0.8
    assert "some samples copy training images" in scores.summary()


def test_copies_are_found_among_augmented_images(tmp_path):
    """Variants of an image are near each other, and would hide that another one is its copy."""
    painted(tmp_path / "raw", num_images=150, render_size=SIDE, holdout_fraction=0.2)
    encoded(tmp_path / "raw", tmp_path / "latents", SIDE, augmented_variants=3)
    records = list(RawDataset(tmp_path / "raw").records("train"))[:NUM_SAMPLES]
    images = [variant(record.data, number) for number, record in enumerate(records)]
    copies = write_samples(tmp_path / "copies", images, [record.label for record in records])
    # 0.42 if the training images have no variants, 0.35 if these hide copies
    assert score(tmp_path, copies)[0].values["copied_share"] > 0.45


def variant(data, number):
    """Return an image moved, scaled and rotated, otherwise than encode does."""
    decoded = decode(data, TRANSFORM, (0, number), num_variants=1)
    return Image.fromarray(decoded.variants[0])


def test_scores_are_written_with_protocol(copies, settings, tmp_path):
    copies[0].write(tmp_path / "metrics" / "evaluate.json")
    written = json.loads((tmp_path / "metrics" / "evaluate.json").read_bytes())
    protocol = written.pop("protocol")
    assert SAMPLING.items() <= protocol["sampling"].items()
    assert protocol["reference_split"] == "holdout"
    assert (protocol["num_samples"], protocol["num_reference"]) == (NUM_SAMPLES, 60)
    assert protocol.pop("feature_network") == settings.features
    values = [*protocol.values(), *protocol["sampling"].values()]
    assert max(len(one) for one in values if isinstance(one, str)) <= 12  # in `dvc metrics diff`
    intervals, quotes = written.pop("intervals"), written.pop("quotes")
    assert all(isinstance(value, float) for value in written.values())
    assert {"fd", "fd_pca", "kid", "precision", "density", "class_accuracy"} <= intervals.keys()
    assert all(low <= written[name] <= high for name, (low, high) in intervals.items())
    assert quotes[0].startswith(f"FD {written['fd']:.4g} [")  # no Inception, no FID
    assert "60 samples against 60 held-out images of 64 px, 50 euler steps" in quotes[0]


def test_tables_and_figures_are_written(copies):
    _, folder = copies
    rows = list(csv.DictReader((folder / "classes.csv").read_text().splitlines()))
    assert [row["class"] for row in rows] == list(CLASSES)
    for name in ("classes.png", "neighbors.png"):
        with Image.open(folder / name) as image:
            image.verify()


def test_equal_samples_get_equal_scores(labeled, copies, settings):
    again, _ = score(labeled, labeled / "copies", settings)
    assert again == copies[0]


def test_features_of_reference_images_are_kept(labeled, copies, noise, settings, tmp_path, capsys):
    assert score(labeled, labeled / "copies", settings, tmp_path)[0] == copies[0]
    assert "evaluate: training images: " in capsys.readouterr().err
    assert score(labeled, labeled / "noise", settings, tmp_path)[0] == noise[0]
    extracted = capsys.readouterr().err
    assert "evaluate: samples: " in extracted
    for kept in ("holdout", "training images", "noise", "scrambled"):
        assert f"evaluate: {kept}" not in extracted


def test_too_few_samples_are_refused_by_key(labeled):
    large = SETTINGS.model_copy(update={"kid_subset_size": 61, "nearest_k": 60})
    both = r"kid_subset_size is 61, .* at most 60; evaluate\.nearest_k is 60, .* at most 59"
    with pytest.raises(UserError, match=both):
        score(labeled, labeled / "copies", large)


def test_unusable_holdout_images_do_not_count(labeled, tmp_path):
    raw = RawDataset(labeled / "raw")
    with new_folder(tmp_path / "raw") as temporary, RawWriter(temporary, CLASSES, 256) as writer:
        for split in ("train", "holdout"):
            for i, record in enumerate(raw.records(split)):
                damaged = split == "holdout" and i < 10
                writer.add(split, replace(record, data=b"damaged") if damaged else record)
        writer.finish(license="", origin="", revision=None, refused={})
    encoded(tmp_path / "raw", tmp_path / "latents", SIDE)
    samples = write_samples(tmp_path / "samples", [draw("hills", SIDE, 0)] * 60, [0] * 60)
    large = SETTINGS.model_copy(update={"kid_subset_size": 51, "nearest_k": 50})
    both = r"kid_subset_size is 51, .* at most 50; evaluate\.nearest_k is 50, .* at most 49"
    with pytest.raises(UserError, match=both):
        score(tmp_path, samples, large)


def damaged_info(folder):
    (folder / "dataset.json").write_text("{}")


def truncated_file(folder):
    (folder / "samples-00000.parquet").write_bytes(b"")


@pytest.mark.parametrize("damage", [damaged_info, truncated_file])
def test_damaged_samples_error_names_the_remedy(labeled, damage):
    samples = write_samples(labeled / "damaged", [draw("hills", SIDE, 0)], [0])
    damage(samples)
    with pytest.raises(UserError, match=r"; run `liquidgen repair`, then `dvc repro`"):
        score(labeled, samples)


@pytest.mark.parametrize(
    "name", ["raw/holdout-00000.parquet", "latents/train-00000.tar", "latents/holdout-00000.tar"]
)
def test_flipped_bit_in_what_is_read_is_refused(labeled, name):
    samples = write_samples(labeled / "whole", [draw("hills", SIDE, 0)] * 60, [0] * 60)
    flip_a_bit(labeled / name)
    try:
        with pytest.raises(UserError, match=f"{name}: damaged, its sha256 is not the recorded"):
            score(labeled, samples)
    finally:
        flip_a_bit(labeled / name)  # whole again


def test_unreadable_sample_is_named(labeled):
    samples = write_samples(
        labeled / "unreadable", [draw("hills", SIDE, i) for i in range(60)], [0] * 60
    )
    records = list(RawDataset(samples).records("samples"))
    info = RawDataset(samples).info
    with new_folder(samples) as temporary, RawWriter(temporary, CLASSES, 256) as writer:
        for i, record in enumerate(records):
            writer.add("samples", replace(record, data=record.data[:200]) if i == 41 else record)
        facts = {"license": "", "origin": "", "revision": None, "refused": {}}
        writer.finish(**facts, sampling=info.sampling)
    named = (
        r"samples-00000\.parquet: '41\.png' cannot be used \(\w+\); run `dvc repro -f -s sample`"
    )
    with pytest.raises(UserError, match=named):
        score(labeled, samples)


def test_samples_of_other_classes_are_refused(labeled):
    image = draw("hills", SIDE, 0)
    samples = write_samples(labeled / "other", [image], [0], classes=("hills",))
    with pytest.raises(UserError, match="other classes"):
        score(labeled, samples)


def test_samples_of_an_earlier_version_are_refused_at_once(labeled):
    samples = write_samples(labeled / "earlier", [draw("hills", SIDE, 0)] * 60, [0] * 60)
    info = samples / "dataset.json"
    info.write_text(info.read_text().replace("num_inference_steps", "num_steps"))
    with pytest.raises(UserError, match="drawn by an earlier version; run `dvc repro sample`"):
        score(labeled, samples)


def test_unlabeled_data_have_no_class_scores(tmp_path):
    (tmp_path / "images").mkdir()
    for i in range(120):
        draw(CLASSES[i % 10], SIDE, i).save(tmp_path / "images" / f"{i}.png")
    dataset = FolderSettings(
        kind="folder",
        path=str(tmp_path / "images"),
        labels="none",
        max_images=None,
        holdout_fraction=0.5,
        license="unknown",
    )
    data = prepared(tmp_path, dataset, SIDE)
    images = [draw(CLASSES[i % 10], SIDE, 1000 + i) for i in range(60)]
    samples = write_samples(tmp_path / "samples", images, [None] * 60, classes=None)
    scores, folder = score(data, samples)
    assert RawDataset(data / "raw").classes is None
    assert not {"class_accuracy", "probe_accuracy"} & scores.values.keys()
    assert {"fd", "kid", "copied_share"} <= scores.values.keys()
    assert not (folder / "classes.csv").exists()
