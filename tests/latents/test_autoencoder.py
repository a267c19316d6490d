"""The interface to three autoencoder classes, and the builtin weights."""

import io
import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from liquidgen.config.settings import AutoencoderSettings
from liquidgen.latents.autoencoder import load_autoencoder
from liquidgen.latents.weights import CONFIG, SHIPPED, WEIGHTS
from liquidgen.stages.download.procedural import STYLES, draw
from liquidgen.utils.errors import UserError

DATA = Path("../shared/data")
TAEF1 = DATA / "taef1"
MAX_BYTES = 5_000_000


def settings(**changes):
    builtin = {"kind": "dc", "path": None, "channels": 16, "downscale": 8, "scale": 1.0}
    builtin |= {"shift": 0.0, "sha256": None, "license": "MIT", "precision": "fp32"}
    return AutoencoderSettings(**{**builtin, **changes})


def pixels_of(images):
    stacked = torch.from_numpy(np.stack([np.asarray(image) for image in images]))
    return stacked.permute(0, 3, 1, 2).float() / 127.5 - 1


def psnr(pixels, others):
    errors = ((pixels - others) / 2).square().mean(dim=(1, 2, 3))
    return (-10 * errors.log10()).mean().item()


@pytest.fixture(scope="module")
def builtin():
    return load_autoencoder(settings(), "cpu")


@pytest.fixture(scope="module")
def paintings():
    return pixels_of([draw(style, 64, seed) for style in STYLES for seed in (10**7, 10**7 + 1)])


@pytest.fixture(scope="module")
def small_kl(tmp_path_factory):
    """Save a random AutoencoderKL, 4 channels and 4x, in diffusers' layout."""
    from diffusers import AutoencoderKL

    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("kl")
    AutoencoderKL(
        block_out_channels=(4, 8, 8),
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        norm_num_groups=4,
    ).save_pretrained(folder)
    return settings(kind="kl", path=str(folder), channels=4, downscale=4)


def test_builtin_weights_fit_in_5_mb():
    assert sum(path.stat().st_size for path in SHIPPED.iterdir()) <= MAX_BYTES


def test_builtin_reconstructs_every_style(builtin, paintings):
    latents = builtin.encode(paintings)
    assert latents.shape == (len(paintings), 16, 8, 8)
    assert psnr(paintings, builtin.decode(latents)) > 32  # 33.1 at the time of training


def test_builtin_latents_are_roughly_normalized(builtin, paintings):
    std, mean = torch.std_mean(builtin.encode(paintings), dim=(0, 2, 3))
    assert mean.abs().max() < 0.5
    assert ((std > 0.3) & (std < 1.5)).all()


def test_builtin_takes_rectangular_images(builtin):
    latents = builtin.encode(torch.zeros(1, 3, 40, 72))
    assert latents.shape == (1, 16, 5, 9)
    assert builtin.decode(latents).shape == (1, 3, 40, 72)


def test_latents_do_not_depend_on_batch(builtin, paintings):
    together = builtin.encode(paintings)
    assert torch.equal(together, builtin.encode(paintings))
    torch.testing.assert_close(builtin.encode(paintings[3:4]), together[3:4], rtol=0, atol=1e-4)


def test_decoded_pixels_are_clamped(builtin):
    pixels = builtin.decode(10 * torch.randn(2, 16, 8, 8))
    assert pixels.min() == -1
    assert pixels.max() == 1


def test_taef1_reconstructs_photographs():
    source = DATA / "flowers5_128"
    if not (TAEF1.is_dir() and source.is_dir()):
        pytest.skip("needs ../shared/data/taef1 and ../shared/data/flowers5_128")
    rows = pq.read_table(source, columns=["image"]).column("image").slice(0, 4).to_pylist()
    pixels = pixels_of([Image.open(io.BytesIO(row["bytes"])).convert("RGB") for row in rows])
    taef1 = load_autoencoder(settings(kind="tiny", path=str(TAEF1)), "cpu")
    latents = taef1.encode(pixels)
    assert latents.dtype == torch.float32
    assert psnr(pixels, taef1.decode(latents)) > 22


def test_kl_encodes_to_mode_of_posterior(small_kl):
    autoencoder = load_autoencoder(small_kl, "cpu")
    pixels = torch.rand(2, 3, 16, 24) * 2 - 1
    latents = autoencoder.encode(pixels)
    assert latents.shape == (2, 4, 4, 6)
    assert torch.equal(latents, autoencoder.encode(pixels))
    assert autoencoder.decode(latents).shape == pixels.shape


def test_scale_and_shift_change_latents_not_pixels(small_kl):
    plain = load_autoencoder(small_kl, "cpu")
    moved = load_autoencoder(small_kl.model_copy(update={"scale": 0.25, "shift": 0.5}), "cpu")
    pixels = torch.rand(1, 3, 16, 16) * 2 - 1
    latents = plain.encode(pixels)
    torch.testing.assert_close(moved.encode(pixels), (latents - 0.5) * 0.25)
    torch.testing.assert_close(moved.decode(moved.encode(pixels)), plain.decode(latents))


def test_digest_identifies_weights(builtin, small_kl):
    other = load_autoencoder(small_kl, "cpu")
    assert len(builtin.digest) == 64
    assert builtin.digest != other.digest


@pytest.mark.parametrize(
    ("pixels", "rule"),
    [
        (torch.zeros(1, 3, 60, 64), "64x60 px.*multiples of 8.*image_size"),
        (torch.zeros(1, 1, 64, 64), r"need \(B, 3, H, W\)"),
        (torch.zeros(0, 3, 64, 64), r"need \(B, 3, H, W\)"),
        (torch.zeros(1, 3, 64, 64, dtype=torch.uint8), "dtype torch.uint8"),
        (torch.full((1, 3, 64, 64), 255.0), r"need \[-1, 1\]"),
        (torch.full((1, 3, 64, 64), torch.nan), r"need \[-1, 1\]"),
    ],
)
def test_invalid_pixels_are_refused(builtin, pixels, rule):
    with pytest.raises(UserError, match=rule):
        builtin.encode(pixels)


@pytest.mark.parametrize(
    ("latents", "rule"),
    [
        (torch.zeros(1, 4, 8, 8), r"need \(B, 16, h, w\)"),
        (torch.zeros(16, 8, 8), r"need \(B, 16, h, w\)"),
        (torch.zeros(1, 16, 8, 8, dtype=torch.float16), "dtype torch.float16"),
    ],
)
def test_invalid_latents_are_refused(builtin, latents, rule):
    with pytest.raises(UserError, match=rule):
        builtin.decode(latents)


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"path": "no/such/folder"}, "no/such/folder.*no such folder"),
        ({"path": str(Path(__file__).parent)}, "has no config.json"),
        ({"kind": "kl"}, "holds AutoencoderDC.*AutoencoderKL; set kind to 'dc'"),
        ({"channels": 4}, "channels: 4, but .* has 16; set 16"),
        ({"downscale": 16}, "downscale: 16, but .* has 8; set 8"),
    ],
)
def test_folder_that_contradicts_settings_is_refused(changes, rule):
    with pytest.raises(UserError, match=rule):
        load_autoencoder(settings(**changes), "cpu")


def test_whole_pipeline_says_which_part_is_meant(small_kl, tmp_path):
    (tmp_path / "vae").symlink_to(small_kl.path)
    whole = small_kl.model_copy(update={"path": f"{tmp_path}/"})
    with pytest.raises(UserError, match=rf"holds a whole pipeline; .* {tmp_path}/vae$"):
        load_autoencoder(whole, "cpu")


def damaged(folder, small_kl, *, config=None, weights=None):
    """Copy the small autoencoder with one file replaced."""
    source = Path(small_kl.path)
    (folder / CONFIG).write_bytes(config or (source / CONFIG).read_bytes())
    (folder / WEIGHTS).write_bytes(weights or (source / WEIGHTS).read_bytes())
    return small_kl.model_copy(update={"path": str(folder)})


def test_relative_path_is_of_real_checkout(small_kl, tmp_path, monkeypatch):
    (tmp_path / "kl").symlink_to(small_kl.path)
    workspace = tmp_path / ".dvc/tmp/exps/tmpabc"
    workspace.mkdir(parents=True)
    monkeypatch.chdir(workspace)
    monkeypatch.setenv("HOME", str(tmp_path))
    for path in ("kl", "~/kl"):
        found = load_autoencoder(small_kl.model_copy(update={"path": path}), "cpu")
        assert found.digest == load_autoencoder(small_kl, "cpu").digest


def test_truncated_weights_are_refused(tmp_path, small_kl):
    whole = (Path(small_kl.path) / WEIGHTS).read_bytes()
    with pytest.raises(UserError, match="unreadable"):
        load_autoencoder(damaged(tmp_path, small_kl, weights=whole[:-100]), "cpu")


def test_damaged_config_is_refused(tmp_path, small_kl):
    with pytest.raises(UserError, match="not valid JSON"):
        load_autoencoder(damaged(tmp_path, small_kl, config=b"{"), "cpu")


def test_weights_of_other_size_are_refused(tmp_path, small_kl):
    config = json.loads((Path(small_kl.path) / CONFIG).read_bytes())
    other = json.dumps({**config, "layers_per_block": 2}).encode()
    with pytest.raises(UserError, match=r"lacks .* weights"):
        load_autoencoder(damaged(tmp_path, small_kl, config=other), "cpu")
