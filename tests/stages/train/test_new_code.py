"""Trainings after edits of the code: `dvc repro` never exports weights that other code trained."""

import hashlib
from pathlib import Path

from helpers.checkout import Checkout

OPTIMIZERS = Path("liquidgen/stages/train/optimizers.py")
MODULE = Path("liquidgen/stages/train/constants.py")


def weights(checkout: Checkout) -> str:
    """Return the digest of the model's weights."""
    (path,) = (checkout.root / "data/models").rglob("*.safetensors")
    return hashlib.sha256(path.read_bytes()).hexdigest()


def states(checkout: Checkout) -> set[str]:
    """Return the names of the folders of all trainings."""
    return {path.name for path in (checkout.root / "work/train").iterdir() if path.is_dir()}


def use_new_module(checkout: Checkout) -> None:
    """Let the optimizer import a constant from a new module."""
    (checkout.root / MODULE).write_text("BETA_2 = 0.99\n")
    optimizers = checkout.root / OPTIMIZERS
    text = optimizers.read_text()
    for old, new in (
        ("import torch\n", "import torch\n\nfrom liquidgen.stages.train.constants import BETA_2\n"),
        ("betas=(beta1, beta2)", "betas=(beta1, BETA_2)"),
    ):
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    optimizers.write_text(text)


def test_edit_of_new_module_retrains(checkout: Checkout):
    """A module that nobody lists anywhere is part of a training's identity."""
    original, known = weights(checkout), states(checkout)
    use_new_module(checkout)
    assert checkout.repro("train") == ["train"]
    assert weights(checkout) == original  # params.yaml has the same value
    (checkout.root / MODULE).write_text("BETA_2 = 0.5\n")
    assert checkout.repro("train") == ["train"]
    assert weights(checkout) != original
    assert len(states(checkout) - known) == 2


def test_edit_of_sample_settings_does_not_retrain(checkout: Checkout):
    """Previews use the settings of the section sample; a training's identity does not."""
    state = checkout.root / "work/train"
    before = sorted(state.rglob("step-*"))
    assert before
    earlier = weights(checkout)
    checkout.change(sample__num_inference_steps=5, sample__guidance_scale=3.0, sample__seed=1)
    done = checkout.stage("train")
    assert done.returncode == 0, done.stderr
    assert sorted(state.rglob("step-*")) == before
    assert weights(checkout) == earlier
