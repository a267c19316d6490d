"""Previews: the first images of the stage sample, without an effect on the training."""

import dataclasses
import io
import logging
import weakref

import numpy as np
import pytest
import torch
from helpers.training import (
    CLASSES,
    CPU,
    SAMPLE,
    SIDE,
    MemoryLog,
    assert_same_end,
    prepare,
    preview,
    train,
    with_other_autoencoder,
)
from PIL import Image

from liquidgen.images.raw import RawDataset
from liquidgen.latents.autoencoder import Autoencoder, load_autoencoder
from liquidgen.latents.manifest import read_manifest
from liquidgen.runtime.signals import Interrupted
from liquidgen.stages.sample.sample import sample
from liquidgen.stages.train.checkpoint import checkpoints
from liquidgen.stages.train.export import export, model_metadata
from liquidgen.stages.train.preview import COLUMNS, preview_grid
from liquidgen.stages.train.trainer import Trainer
from liquidgen.utils.errors import UserError

STEPS = 8  # of an epoch


def never():
    """Not interrupted."""


def moved(trainer):
    """Move the averaged weights away from their start, where all classes look alike."""
    torch.manual_seed(0)
    for average in trainer.learner.ema.shadow_params:
        average += 0.1 * torch.randn_like(average)
    return trainer


def cells(grid, rows):
    """Cut a grid into an array (rows, COLUMNS, SIDE, SIDE, 3)."""
    step = SIDE + 2
    left = grid.width - COLUMNS * step + 2  # of the images; names are further left
    pixels = np.asarray(grid).astype(int)
    return np.stack(
        [
            [
                pixels[row * step :, left + column * step :][:SIDE, :SIDE]
                for column in range(COLUMNS)
            ]
            for row in range(rows)
        ]
    )


def sampled(trainer, folder, settings):
    """Return the images of the stage sample from the weights of a trainer."""
    trainer.progress.curve = [{"validation_loss": 0.0}]
    trainer.progress.seconds = 1.0
    export(trainer, folder / "model", folder / "metrics", name="small", run_id="a-run")
    sample(folder / "model", folder / "samples", settings=settings, device=CPU)
    records = RawDataset(folder / "samples").records("samples")
    return [np.asarray(Image.open(io.BytesIO(record.data))).astype(int) for record in records]


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"seed": 7},
        {"solver": "heun", "num_inference_steps": 3},
        {"guidance_scale": 1.0},
        {"guidance_scale": 4.0},
        {"batch_size": 7},
    ],
    ids=str,
)
def test_preview_images_are_the_first_of_sample(tmp_path, latents, changes):
    """Image number i of the grid is image number i of the stage sample."""
    settings = SAMPLE.model_copy(update={"num_images": CLASSES * COLUMNS} | changes)
    trainer = moved(Trainer(prepare(tmp_path, latents), CPU))
    grid = preview_grid(trainer.learner, model_metadata(trainer, "small"), settings, never)
    images = cells(grid, CLASSES)
    for number, image in enumerate(sampled(trainer, tmp_path, settings)):
        shown = images[number % CLASSES, number // CLASSES]
        # batches of other sizes may round differently, by one level at most
        assert abs(shown - image).max() <= 1
        assert image.std() > 1


def test_preview_settings_change_the_images(tmp_path, latents):
    trainer = moved(Trainer(prepare(tmp_path, latents), CPU))
    metadata = model_metadata(trainer, "small")
    changes = [
        {},
        {"seed": 7},
        {"num_inference_steps": 3},
        {"guidance_scale": 4.0},
        {"solver": "heun"},
    ]
    grids = {
        preview_grid(trainer.learner, metadata, SAMPLE.model_copy(update=change), never).tobytes()
        for change in changes
    }
    assert len(grids) == len(changes)


def test_preview_has_one_row_per_class(tmp_path, latents):
    log = MemoryLog()
    train(prepare(tmp_path, latents, num_epochs=1, preview_every=1), log)
    [(step, key, image)] = log.images
    assert (step, key) == (STEPS, "preview")
    assert image.height == CLASSES * (SIDE + 2) - 2
    assert image.width > COLUMNS * (SIDE + 2)  # the names are at the left
    grid = image.crop((image.width - COLUMNS * (SIDE + 2) + 2, 0, image.width, image.height))
    assert len(np.unique(np.asarray(grid).reshape(-1, 3), axis=0)) > 1000


def test_preview_shows_the_first_of_many_classes(tmp_path, latents, monkeypatch):
    trainer = moved(Trainer(prepare(tmp_path, latents), CPU))
    whole = cells(preview(trainer, never), CLASSES)
    monkeypatch.setattr("liquidgen.stages.train.preview.ROWS", 3)
    few = preview(trainer, never)
    assert few.height == 3 * (SIDE + 2) - 2
    assert abs(cells(few, 3) - whole[:3]).max() <= 1


def test_preview_without_classes_is_a_square(tmp_path, latents):
    training = prepare(tmp_path, latents)
    network = training.network | {"num_classes": 0}
    trainer = moved(Trainer(dataclasses.replace(training, network=network), CPU))
    metadata = model_metadata(trainer, "small").model_copy(update={"classes": None})
    image = preview_grid(trainer.learner, metadata, SAMPLE, never)
    assert image.size == (COLUMNS * (SIDE + 2) - 2,) * 2


def test_preview_without_null_labels_is_unguided(tmp_path, latents):
    """The stage sample would refuse its guidance scale; a preview must not stop the training."""
    trainer = moved(Trainer(prepare(tmp_path, latents, label_dropout=0.0), CPU))
    metadata = model_metadata(trainer, "small")
    assert SAMPLE.guidance_scale > 1
    unguided = SAMPLE.model_copy(update={"guidance_scale": 1.0})
    grids = [
        preview_grid(trainer.learner, metadata, settings, never) for settings in (SAMPLE, unguided)
    ]
    assert grids[0].tobytes() == grids[1].tobytes()


def test_preview_releases_its_autoencoder(tmp_path, latents, monkeypatch):
    loaded = []
    released = []

    def load(*arguments):
        autoencoder = load_autoencoder(*arguments)
        loaded.append(weakref.ref(autoencoder.model))
        return autoencoder

    monkeypatch.setattr("liquidgen.stages.train.preview.load_autoencoder", load)
    monkeypatch.setattr(
        "liquidgen.stages.train.preview.empty_cache",
        lambda device: released.append((device, loaded[-1]())),
    )
    preview(Trainer(prepare(tmp_path, latents), CPU), never)
    assert released == [(CPU, None)]


def test_stop_waits_for_few_decoded_images(tmp_path, latents, monkeypatch):
    decode = Autoencoder.decode
    decoded = []

    def counting(autoencoder, latents):
        decoded.append(len(latents))
        return decode(autoencoder, latents)

    def check():
        if decoded:
            raise Interrupted

    monkeypatch.setattr(Autoencoder, "decode", counting)
    trainer = Trainer(prepare(tmp_path, latents), CPU)
    with pytest.raises(Interrupted):
        preview(trainer, check)
    assert decoded == [COLUMNS]


def test_stop_waits_for_one_call_of_the_network(tmp_path, latents):
    trainer = Trainer(prepare(tmp_path, latents), CPU)
    calls = []
    trainer.learner.model.register_forward_hook(lambda *_: calls.append(1))

    def check():
        if calls:
            raise Interrupted

    with pytest.raises(Interrupted):
        preview(trainer, check)
    assert len(calls) == 1
    assert trainer.learner.model.training  # and the weights in training are back


def test_preview_leaves_the_training_unchanged(tmp_path, latents):
    seen = train(prepare(tmp_path / "seen", latents, num_epochs=1, preview_every=1))
    assert_same_end(seen, train(prepare(tmp_path, latents, num_epochs=1)))


def test_failed_preview_is_a_warning(tmp_path, latents, caplog):
    def failing(trainer, check):
        raise UserError("the latents are not finite")

    training = prepare(tmp_path, latents, num_epochs=1, preview_every=1)
    log = MemoryLog()
    with training.locked(), caplog.at_level(logging.WARNING):
        Trainer(training, CPU).run(log, failing)
    assert log.images == []
    assert [step for step, _ in checkpoints(training.folder)] == [STEPS]
    assert caplog.messages == [
        f"no preview at step {STEPS} (the latents are not finite); the training goes on"
    ]


def test_preview_refuses_other_autoencoder(tmp_path, latents):
    trainer = Trainer(prepare(tmp_path, latents), CPU)
    contract = read_manifest(with_other_autoencoder(tmp_path / "latents", latents)).contract
    metadata = model_metadata(trainer, "small").model_copy(update={"contract": contract})
    with pytest.raises(UserError, match="latents were made with ffffffffffff"):
        preview_grid(trainer.learner, metadata, SAMPLE, never)
