"""A GPU gives what a CPU gives. The same tests run on a CPU, which keeps them working."""

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.small_data import prepared, procedural
from helpers.small_model import BUILTIN
from helpers.training import CPU, PARAMS, SIDE, MemoryLog, prepare
from PIL import Image

from liquidgen.features import load_feature_network
from liquidgen.images.raw import RawDataset
from liquidgen.latents.autoencoder import load_autoencoder
from liquidgen.stages.sample.sample import sample
from liquidgen.stages.train.trainer import Trainer

NO_GPU = not torch.cuda.is_available()
ON_GPU = [pytest.mark.gpu, pytest.mark.skipif(NO_GPU, reason="needs a GPU")]


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=ON_GPU)])
def device(request: pytest.FixtureRequest) -> torch.device:
    return torch.device(request.param)


@pytest.fixture(scope="module")
def latents(tmp_path_factory: pytest.TempPathFactory) -> Path:
    dataset = procedural(num_images=64, render_size=SIDE)
    return prepared(tmp_path_factory.mktemp("latents"), dataset, SIDE) / "latents"


def curve(folder: Path, latents: Path, device: torch.device, **changes: object) -> list[float]:
    """Train to the end, going on with what is in the folder; returns the loss of each step."""
    training = prepare(folder, latents, num_epochs=4, **changes)
    log = MemoryLog()
    with training.locked():
        Trainer(training, device).run(log, lambda *_: None)
    return [metrics["loss"] for _, metrics in log.metrics if "loss" in metrics]


def test_training_has_the_curve_of_a_cpu(device, latents, tmp_path):
    expected = curve(tmp_path / "cpu", latents, CPU)
    assert len(expected) > 10
    assert curve(tmp_path / "own", latents, device) == pytest.approx(expected, rel=1e-3)


def test_training_continues_on_a_cpu(device, latents, tmp_path):
    expected = curve(tmp_path / "cpu", latents, CPU)
    training = prepare(tmp_path / "own", latents, num_epochs=2)
    with training.locked():
        Trainer(training, device).run(MemoryLog(), lambda *_: None)
    rest = curve(tmp_path / "own", latents, CPU)
    assert rest
    assert rest == pytest.approx(expected[-len(rest) :], rel=1e-3)


def test_half_precision_has_nearly_the_curve(device, latents, tmp_path):
    expected = curve(tmp_path / "cpu", latents, CPU)
    precision = "bf16" if device.type == "cpu" else "fp16"  # with loss scaling
    rounded = curve(tmp_path / "own", latents, device, precision=precision)
    assert rounded[-1] == pytest.approx(expected[-1], rel=0.02)


@pytest.mark.parametrize(("precision", "largest"), [("fp32", 0.1), ("auto", 1)])
def test_samples_are_those_of_a_cpu(device, model, tmp_path, precision, largest):
    images = []
    changes = {"num_images": 6, "num_inference_steps": 2, "precision": precision}
    settings = PARAMS.sample.model_copy(update=changes)
    for name, one in (("cpu", CPU), ("own", device)):
        sample(model, tmp_path / name, settings=settings, device=one)
        records = RawDataset(tmp_path / name).records("samples")
        images.append(np.stack([np.asarray(Image.open(io.BytesIO(r.data))) for r in records]))
    assert np.abs(images[0].astype(int) - images[1]).mean() <= largest  # of 255 levels


def test_autoencoder_gives_the_latents_of_a_cpu(device):
    pixels = torch.rand(4, 3, SIDE, SIDE) * 2 - 1
    expected = load_autoencoder(BUILTIN, CPU).encode(pixels)
    own = load_autoencoder(BUILTIN, device)
    encoded = own.encode(pixels.to(device))
    torch.testing.assert_close(encoded.cpu(), expected, rtol=0, atol=0.02)
    assert own.decode(encoded).shape == pixels.shape


def test_features_are_those_of_a_cpu(device):
    pixels = torch.rand(4, 3, SIDE, SIDE) * 2 - 1
    expected = load_feature_network("builtin", CPU)(pixels)
    features = load_feature_network("builtin", device)(pixels.to(device)).cpu()
    torch.testing.assert_close(features, expected, rtol=0.01, atol=0.02)
