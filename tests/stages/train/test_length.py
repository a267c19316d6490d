"""What a training says of its own length before most of it has run."""

import logging

import pytest
from helpers.checkout import encoded
from helpers.small_data import painted
from helpers.training import MemoryLog, prepare, train

from liquidgen.stages.train import length
from liquidgen.stages.train.callbacks import CallbackLogger
from liquidgen.stages.train.length import ENOUGH_IMAGES, LengthReport, length_advice, length_line

STEPS = 16  # 2 epochs of 143 latents in batches of 16


def said(tmp_path, latents, caplog, capsys, *, drawn, **changes):
    """Train, and return what was printed and the warnings."""
    training = prepare(tmp_path, latents, **changes)
    with caplog.at_level(logging.WARNING):
        train(training, CallbackLogger(MemoryLog(), [LengthReport(training, drawn=drawn)]))
    return capsys.readouterr().out, caplog.text


def test_steps_time_and_rate_are_printed_once(tmp_path, latents, caplog, capsys):
    printed, warned = said(tmp_path, latents, caplog, capsys, drawn=True)
    line, end = printed.split("\n")
    assert line.startswith(f"train: {STEPS} steps of 16 images (2 epochs of 143); about ")
    assert line.endswith(" images per second")
    assert end == ""
    assert warned == ""


def test_one_epoch_is_singular(tmp_path, latents):
    training = prepare(tmp_path, latents, num_epochs=1)
    assert "(1 epoch of 143)" in length_line(training, 0, 1.0)


@pytest.fixture
def any_epochs(monkeypatch):
    """The 143 latents of these tests stand for a set that is large enough."""
    monkeypatch.setattr(length, "MAX_EPOCHS", 10**6)


@pytest.mark.usefixtures("any_epochs")
def test_short_training_on_real_images_warns(tmp_path, latents, caplog, capsys):
    _, warned = said(tmp_path, latents, caplog, capsys, drawn=False)
    assert "the model will see 256 images" in warned


def test_few_images_are_not_advised_to_be_copied(tmp_path, latents):
    advice = length_advice(prepare(tmp_path, latents), drawn=False)
    assert advice.startswith("143 training images are few: the 2,000 epochs")
    assert advice.endswith("augmented ones (encode.flip, encode.augmented_variants: 3)")


def test_augmented_images_are_not_advised_again(tmp_path):
    painted(tmp_path / "raw", num_images=20, render_size=16, holdout_fraction=0.2)
    encoded(tmp_path / "raw", tmp_path / "latents", 16, augmented_variants=1)
    advice = length_advice(prepare(tmp_path, tmp_path / "latents"), drawn=False)
    assert advice.endswith("; use more images")


@pytest.mark.usefixtures("any_epochs")
def test_advice_is_enough(tmp_path, latents):
    """Who follows the advice gets no further advice."""
    training = prepare(tmp_path, latents)
    advice = length_advice(training, drawn=False)
    epochs = int(advice.partition("train.num_epochs: ")[2].partition(",")[0])
    enough = prepare(tmp_path, latents, num_epochs=epochs)
    assert length_advice(enough, drawn=False) is None
    assert enough.last_step * 16 < 1.05 * ENOUGH_IMAGES
