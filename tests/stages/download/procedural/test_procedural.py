"""Procedural paintings: determinism, contrast, and distinct styles."""

import hashlib
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from liquidgen.stages.download.procedural import STYLES, draw
from liquidgen.utils.errors import UserError

every_style = pytest.mark.parametrize("style", STYLES)


def pixels(style, size, seed):
    return np.asarray(draw(style, size, seed), np.float32)


def test_ten_styles_are_in_a_fixed_order():
    assert list(STYLES) == [
        *("hills", "seascape", "colour_fields", "neoplastic_grid", "concentric_circles"),
        *("starry_night", "pointillism", "bouquet", "skyline", "marble"),
    ]


@every_style
@pytest.mark.parametrize("size", [32, 64, 100])
def test_painting_is_rgb_of_the_given_size(style, size):
    image = draw(style, size, seed=0)
    assert isinstance(image, Image.Image)
    assert (image.mode, image.size) == ("RGB", (size, size))


@every_style
def test_seed_gives_the_same_painting(style):
    assert draw(style, 64, seed=5).tobytes() == draw(style, 64, seed=5).tobytes()


def test_new_process_gives_the_same_paintings():
    script = (
        "import hashlib; from liquidgen.stages.download.procedural import STYLES, draw;"
        "print(hashlib.sha256(b''.join(draw(s, 32, 7).tobytes() for s in STYLES)).hexdigest())"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    here = hashlib.sha256(b"".join(draw(style, 32, 7).tobytes() for style in STYLES))
    assert run.stdout.strip() == here.hexdigest()


@every_style
def test_different_seeds_give_different_paintings(style):
    assert len({draw(style, 64, seed).tobytes() for seed in range(16)}) == 16


@every_style
@pytest.mark.parametrize("seed", range(4))
def test_seed_is_one_composition_at_every_size(style, seed):
    small = pixels(style, 64, seed)
    reduced = np.asarray(draw(style, 128, seed).reduce(2), np.float32)
    assert np.abs(small - reduced).mean() < 4


@every_style
def test_painting_has_contrast(style):
    for seed in range(8):
        assert pixels(style, 64, seed).std() > 12


def test_style_is_told_by_nearest_neighbor():
    def features(style, seed):
        """Luminance and its steps to the right and downwards, on a coarse grid."""
        gray = np.asarray(draw(style, 64, seed).convert("L"), np.float32)
        steps = [np.abs(np.diff(gray, axis=axis, append=0)) for axis in (0, 1)]
        return np.concatenate([m.reshape(8, 8, 8, 8).mean((1, 3)).ravel() for m in (gray, *steps)])

    names = list(STYLES)
    known = np.stack([[features(name, seed) for seed in range(16)] for name in names])
    fresh = np.stack([[features(name, seed) for seed in range(100, 106)] for name in names])
    distances = np.linalg.norm(fresh[:, :, None, None] - known, axis=-1)
    guesses = distances.min(axis=-1).argmin(axis=-1)
    assert (guesses == np.arange(len(names))[:, None]).mean() > 0.8


def test_unknown_style_is_refused_by_name():
    with pytest.raises(UserError, match=r"'cubism'.*choose one of hills, seascape"):
        draw("cubism", 64, seed=0)
