"""Images that are no squares, from params.yaml to the scores."""

import io
from pathlib import Path

import numpy as np
import pytest
from helpers.checkout import Checkout
from PIL import Image

from liquidgen import LiquidGenPipeline
from liquidgen.images.raw import RawDataset
from liquidgen.latents.shards import LatentDataset

HEIGHT, WIDTH = 32, 48


def size(data: bytes) -> tuple[int, int]:
    return Image.open(io.BytesIO(data)).size


@pytest.mark.usefixtures("pipeline")
def test_all_stages_keep_the_proportions(checkout: Checkout, tmp_path: Path):
    checkout.change(image_size=f"{HEIGHT}x{WIDTH}")
    assert checkout.repro() == ["encode", "train", "sample", "evaluate"]
    name = f"procedural-{HEIGHT}x{WIDTH}-builtin"
    latents = LatentDataset(checkout.root / "data/latents" / name, "train")
    assert latents.contract.latent_shape == (16, 4, 6)
    samples = checkout.root / "data/samples" / f"{name}-nano-liquid"
    assert {size(one.data) for one in RawDataset(samples).records("samples")} == {(WIDTH, HEIGHT)}

    model = checkout.root / "data/models" / f"{name}-nano-liquid"
    pipe = LiquidGenPipeline.from_pretrained(model)
    pipe.save_pretrained(tmp_path / "saved")
    drawn = [
        LiquidGenPipeline.from_pretrained(folder)(0, num_inference_steps=2).images[0]
        for folder in (model, tmp_path / "saved")
    ]
    assert drawn[0].size == (WIDTH, HEIGHT)
    assert np.array_equal(*map(np.asarray, drawn))


def test_sides_must_fit_the_autoencoder(checkout: Checkout):
    checkout.change(image_size="32x40")
    done = checkout.run("python", "-m", "stages.encode")
    assert done.stderr == (
        "error: image_size: 32x40: 40 is not a multiple of 16; use 32 or 48 for it\n"
    )
