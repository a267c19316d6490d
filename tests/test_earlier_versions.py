"""Models and trainings from before the code moved into packages still load, draw and continue."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.checkout import PROJECT
from PIL import Image

from liquidgen import LiquidGenPipeline
from liquidgen.config.params import load_params
from liquidgen.images.raw_info import read_info
from liquidgen.runtime.earlier_code import EARLIER_CODE
from liquidgen.stages.sample.sample import sample
from liquidgen.stages.train.checkpoint import checkpoints
from liquidgen.stages.train.run_state import Training, prepare_training, trainer_code
from liquidgen.stages.train.trainer import Trainer

EARLIER = PROJECT / "tests/fixtures/flat_layout"
CHANGES = {
    "models.nano.width": 16,
    "models.nano.depth": 2,
    "models.nano.cond_dim": 16,
    "models.nano.patch_size": 1,
    "blocks.liquid": {
        "kernel_size": 5,
        "scan_kernel_size": 7,
        "mlp_ratio": 4,
        "alpha_init": 0.9,
    },
    "train.num_epochs": 2,
    "train.batch_size": 8,
    "train.validate_every": 1,
    "train.preview_every": 0,
}
PARAMS = load_params(PROJECT / "params.yaml", CHANGES)
CPU = torch.device("cpu")
STEPS = 8  # of the two epochs
MOST_LEVELS = 2  # of 255, by which a color may differ on another processor


def pixels(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path)).astype(int)


def test_earlier_model_draws_the_same_images(tmp_path: Path):
    recorded = read_info(EARLIER / "samples").sampling
    assert recorded is not None
    keys = ("solver", "guidance_scale", "seed")
    settings = PARAMS.sample.model_copy(
        update={
            "num_images": 10,
            "batch_size": 10,
            "num_inference_steps": recorded["num_steps"],  # its name then
            **{key: recorded[key] for key in keys},
        }
    )
    sample(EARLIER / "model", tmp_path / "samples", settings=settings, device=CPU)
    for path in sorted((EARLIER / "samples").glob("*.png")):
        difference = np.abs(pixels(path) - pixels(tmp_path / "samples" / path.name))
        assert difference.max() <= MOST_LEVELS, path.name


def test_earlier_model_loads_as_a_pipeline():
    pipe = LiquidGenPipeline.from_pretrained(EARLIER / "model")
    (image,) = pipe("marble", num_images=1, seed=0, num_inference_steps=1).images
    assert image.size == (32, 32)


def earlier_training(root: Path, **changes: object) -> Training:
    return prepare_training(
        EARLIER / "latents",
        root / "train",
        model=PARAMS.model,
        block=PARAMS.selectors.block,
        block_settings=PARAMS.block,
        settings=PARAMS.train.model_copy(update={"optimizer": "adamw"} | changes),
    )


def test_earlier_training_continues(tmp_path: Path):
    if trainer_code(PARAMS.selectors.block) not in EARLIER_CODE:
        pytest.skip("the training's mathematics changed since: such trainings start again")
    shutil.copytree(EARLIER / "train", tmp_path / "train")
    (_, before), *_ = checkpoints(next((tmp_path / "train").iterdir()))
    training = earlier_training(tmp_path, num_epochs=3)
    with training.locked():
        kept = [path for _, path in checkpoints(training.folder)]
        assert kept == [training.folder / before.name]
        trainer = Trainer(training, CPU)
    assert trainer.learner.step == STEPS
    assert [row["epoch"] for row in trainer.progress.curve] == [1, 2]


@pytest.mark.parametrize("number", [0, 1, 2])
def test_trainings_of_all_earlier_code_continue(tmp_path: Path, number: int):
    training = earlier_training(tmp_path)
    (kept,) = (EARLIER / "train").iterdir()
    shutil.copytree(kept, training.earlier[number])
    with training.locked():
        assert checkpoints(training.folder)
    assert not training.earlier[number].exists()


def test_earlier_training_of_other_settings_is_left(tmp_path: Path):
    shutil.copytree(EARLIER / "train", tmp_path / "train")
    (kept,) = (tmp_path / "train").iterdir()
    training = earlier_training(tmp_path, learning_rate=1e-5)
    with training.locked():
        assert checkpoints(training.folder) == []
    assert checkpoints(kept)
