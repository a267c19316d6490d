"""Autoencoders of the hub: checks, precision, and the shared latents of FLUX and TAEF1."""

import gc
import io
import json
import shutil
import weakref
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from helpers.checkout import PROJECT, encoded, read_params
from helpers.small_data import painted
from helpers.small_settings import SMALL
from helpers.standin import StandInHub, autoencoders, presets
from PIL import Image

import liquidgen.hub.download
import liquidgen.latents.autoencoder
from liquidgen.config.settings import AutoencoderSettings
from liquidgen.hub.repository import SCHEME, parse_address
from liquidgen.latents.autoencoder import Autoencoder, load_autoencoder
from liquidgen.latents.manifest import read_manifest
from liquidgen.latents.weights import CONFIG, WEIGHTS, weights_digest
from liquidgen.utils.errors import UserError
from liquidgen.utils.files import file_sha256

BLOCKS = {
    name: AutoencoderSettings(**block)
    for name, block in read_params(PROJECT / "params.yaml")["autoencoders"].items()
}
OF_HUB = {name: block for name, block in BLOCKS.items() if (block.path or "").startswith(SCHEME)}
TAEF1, PHOTOS = Path("../shared/data/taef1"), Path("../shared/data/flowers5_128")


def served(hub: StandInHub, name: str, folder: Path) -> AutoencoderSettings:
    """Serve a small autoencoder of random weights at the address of a block."""
    repo, inside = parse_address(BLOCKS[name].path)
    autoencoders.save(BLOCKS[name], autoencoders.small(BLOCKS[name]), folder / inside)
    hub.model(repo.name, folder, repo.revision, license="mit")
    digest = file_sha256(folder / inside / WEIGHTS)
    return BLOCKS[name].model_copy(update={"sha256": digest})


def drawn(folder: Path) -> Path:
    return painted(folder, num_images=24, render_size=64, holdout_fraction=0.25)


@pytest.mark.parametrize("name", OF_HUB)
def test_preset_is_pinned(name: str):
    assert len(parse_address(OF_HUB[name].path)[0].revision) == 40
    assert OF_HUB[name].sha256


@pytest.mark.parametrize("name", OF_HUB)
def test_preset_encodes_as_a_stage_does(name: str, hub: StandInHub, tmp_path: Path):
    block = served(hub, name, tmp_path / "served")
    manifest = encoded(drawn(tmp_path / "raw"), tmp_path / "latents", 64, autoencoder=block)
    assert sum(split.count for split in manifest.splits.values()) == 24
    contract = read_manifest(tmp_path / "latents").contract
    assert contract.autoencoder == block
    assert contract.autoencoder_digest == block.sha256
    assert contract.latent_shape == (block.channels, 8, 8)
    assert manifest.summary().endswith(f"license of the autoencoder {block.license}")


def test_paintings_in_flux_latents_become_a_model(
    hub: StandInHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    from liquidgen import LiquidGenPipeline, TrainConfig, train

    block = served(hub, "flux", tmp_path / "vae")
    dataset = read_params(PROJECT / "params.yaml")["datasets"]["paintings"]
    hub.dataset(dataset["repo"], presets.paintings(tmp_path / "paintings"), dataset["revision"])
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")  # a new store takes seconds
    settings = SMALL | {"autoencoder": "flux", "autoencoders.flux.sha256": block.sha256}
    model = train(
        TrainConfig(
            model_size="nano",
            dataset_preset="paintings",
            image_size=64,
            batch_size=16,
            num_epochs=1,
            learning_rate=1e-3,
            settings=settings,
        )
    )
    pipe = LiquidGenPipeline.from_pretrained(model)
    drawn = pipe("Ukiyo_e", num_inference_steps=2).images[0]
    assert drawn.size == (64, 64)
    pipe.save_pretrained(tmp_path / "saved")
    hub.forget()
    again = LiquidGenPipeline.from_pretrained(tmp_path / "saved")(
        "Ukiyo_e", num_inference_steps=2
    ).images[0]
    assert np.array_equal(drawn, again)
    assert "license of the images | CC-BY-4.0" in (tmp_path / "saved/README.md").read_text()


def test_latents_are_raw_ones_after_shift_and_scale(hub: StandInHub, tmp_path: Path):
    from diffusers import AutoencoderKL

    block = served(hub, "flux", tmp_path / "served")
    autoencoder = load_autoencoder(block, "cpu")
    pixels = torch.rand(2, 3, 64, 64) * 2 - 1
    model = AutoencoderKL.from_pretrained(
        tmp_path / "served/vae", torch_dtype=torch.float32, low_cpu_mem_usage=False
    )
    with torch.inference_mode():
        raw = model.encode(pixels).latent_dist.mode()
        # as FluxPipeline has it
        expected = (raw - model.config.shift_factor) * model.config.scaling_factor
        again = expected / model.config.scaling_factor + model.config.shift_factor
        image = model.decode(again).sample.clamp(-1, 1)
    latents = autoencoder.encode(pixels)
    torch.testing.assert_close(latents, expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(autoencoder.decode(latents), image, rtol=1e-3, atol=1e-3)


def test_flux_network_has_its_size_and_shapes(tmp_path: Path):
    autoencoders.save(BLOCKS["flux"], autoencoders.FLUX, tmp_path)
    assert (tmp_path / WEIGHTS).stat().st_size == 167_666_902  # as on the hub, to the byte
    block = BLOCKS["flux"].model_copy(update={"path": str(tmp_path), "sha256": None})
    flux = load_autoencoder(block, "cpu")
    assert sum(value.numel() for value in flux.model.parameters()) == 83_819_683
    assert len(flux.model.state_dict()) == 244
    latents = flux.encode(torch.rand(1, 3, 64, 48) * 2 - 1)
    assert latents.shape == (1, 16, 8, 6)
    assert flux.decode(latents).shape == (1, 3, 64, 48)


def test_weights_of_another_digest_are_refused(hub: StandInHub, tmp_path: Path):
    served(hub, "flux", tmp_path / "served")
    with pytest.raises(UserError, match=r"sha256 .* but the block's sha256 is f5b59a268515"):
        load_autoencoder(BLOCKS["flux"], "cpu")


@pytest.mark.parametrize("name", [CONFIG, WEIGHTS])
def test_damaged_cached_file_is_fetched_again(name: str, hub: StandInHub, tmp_path: Path):
    block = served(hub, "flux", tmp_path / "served")
    weights_digest(block)
    (path,) = (tmp_path / "hf").rglob(f"snapshots/**/{name}")
    data = bytearray(path.read_bytes())
    data[len(data) // 2 :] = bytes(len(data) - len(data) // 2)
    path.resolve().write_bytes(data)
    assert load_autoencoder(block, "cpu").digest == block.sha256


def test_damaged_weights_without_a_digest_are_told(hub: StandInHub, tmp_path: Path):
    block = served(hub, "flux", tmp_path / "served").model_copy(update={"sha256": None})
    weights_digest(block)
    (path,) = (tmp_path / "hf").rglob(f"snapshots/**/{WEIGHTS}")
    path.resolve().write_bytes(path.read_bytes()[:-100])
    with pytest.raises(UserError, match=r"unreadable \(.*; download it again .`hf cache rm`"):
        load_autoencoder(block, "cpu")


def test_wrong_block_asks_the_hub_for_nothing(hub: StandInHub, tmp_path: Path):
    block = served(hub, "flux", tmp_path / "served")
    weights_digest(block)
    hub.requests.clear()
    with pytest.raises(UserError, match="autoencoder channels: 4"):
        load_autoencoder(block.model_copy(update={"channels": 4}), "cpu")
    assert not hub.requests


def test_weights_are_asked_for_once(hub: StandInHub, tmp_path: Path):
    block = served(hub, "taef1", tmp_path / "served")
    digest = weights_digest(block)
    hub.forget()
    assert load_autoencoder(block, "cpu").digest == digest
    assert not hub.requests


def test_weights_downloaded_by_others_are_used(hub: StandInHub, tmp_path: Path):
    from huggingface_hub import hf_hub_download

    block = served(hub, "flux", tmp_path / "served")
    repo, inside = parse_address(block.path)
    for name in (CONFIG, WEIGHTS):
        hf_hub_download(repo.name, f"{inside}/{name}", revision=repo.revision)
    hub.forget()
    assert load_autoencoder(block, "cpu").digest == block.sha256


def test_gated_autoencoder_says_where_to_accept(hub: StandInHub, tmp_path: Path):
    block = served(hub, "flux", tmp_path / "served")
    repo, _ = parse_address(block.path)
    hub.repositories["models", repo.name].readers = set()
    with pytest.raises(UserError, match=f"accept them at https://huggingface.co/{repo.name}"):
        load_autoencoder(block, "cpu")


def test_folder_that_the_hub_lacks_is_told(hub: StandInHub, tmp_path: Path):
    block = served(hub, "flux", tmp_path / "served")
    elsewhere = block.model_copy(update={"path": block.path.replace("/vae", "/vea")})
    with pytest.raises(UserError, match=r"no file 'vea/config.json'; .* `path` of the block$"):
        load_autoencoder(elsewhere, "cpu")


def test_whole_pipeline_of_the_hub_says_which_part_is_meant(hub: StandInHub, tmp_path: Path):
    block = served(hub, "flux", tmp_path / "served")
    whole = block.model_copy(update={"path": block.path.removesuffix("/vae")})
    with pytest.raises(UserError, match=rf"holds a whole pipeline; .* {block.path}$"):
        load_autoencoder(whole, "cpu")


def test_autoencoder_without_a_hub_is_told(hub: StandInHub, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(liquidgen.hub.download, "DEADLINE", 0.4)
    with hub.fault("", stall=True), pytest.raises(UserError, match="hub cannot be reached"):
        load_autoencoder(BLOCKS["flux"], "cpu")


@pytest.mark.parametrize("path", ["hf://flux", "hf://a/b", "hf://a/b/c@main", "hf://@main/vae"])
def test_address_of_another_form_is_refused(path: str):
    with pytest.raises(UserError, match="no address of the form hf://owner/name@revision/folder"):
        load_autoencoder(BLOCKS["flux"].model_copy(update={"path": path}), "cpu")


def test_flux_in_fp16_is_refused(hub: StandInHub, tmp_path: Path):
    block = served(hub, "flux", tmp_path / "served")
    with pytest.raises(UserError, match=r"fp16, but .* overflows in it .* set bf16 or fp32"):
        load_autoencoder(block.model_copy(update={"precision": "fp16"}), "cpu")


def test_half_precision_network_has_fp32_inputs(hub: StandInHub, tmp_path: Path):
    block = served(hub, "flux", tmp_path / "served")
    exact = load_autoencoder(block, "cpu")
    half = Autoencoder(load_autoencoder(block, "cpu")._model.bfloat16(), block, block.sha256)
    pixels = torch.rand(2, 3, 64, 64) * 2 - 1
    latents = half.encode(pixels)
    assert latents.dtype == half.decode(latents).dtype == torch.float32
    torch.testing.assert_close(latents, exact.encode(pixels), rtol=0.1, atol=0.02)


def test_large_batches_in_slices_give_the_same(
    hub: StandInHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    autoencoder = load_autoencoder(served(hub, "flux", tmp_path / "served"), "cpu")
    pixels = torch.rand(5, 3, 64, 64) * 2 - 1
    whole = autoencoder.encode(pixels)
    monkeypatch.setattr(liquidgen.latents.autoencoder, "MAX_PIXELS_PER_CALL_ON_CPU", 2 * 64 * 64)
    torch.testing.assert_close(autoencoder.encode(pixels), whole, rtol=1e-4, atol=1e-5)


def test_encode_leaves_no_autoencoder_in_memory(
    hub: StandInHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    block = served(hub, "flux", tmp_path / "served")
    loaded: list[weakref.ref] = []

    def load(*arguments: object) -> Autoencoder:
        autoencoder = load_autoencoder(*arguments)
        loaded.append(weakref.ref(autoencoder))
        return autoencoder

    monkeypatch.setattr(liquidgen.latents.autoencoder, "load_autoencoder", load)
    encoded(drawn(tmp_path / "raw"), tmp_path / "latents", 64, autoencoder=block)
    gc.collect()
    assert [reference() for reference in loaded] == [None]


def photographs(count: int) -> torch.Tensor:
    rows = pq.read_table(PHOTOS, columns=["image"]).column("image").slice(0, count).to_pylist()
    images = [Image.open(io.BytesIO(row["bytes"])).convert("RGB") for row in rows]
    stacked = torch.from_numpy(np.stack([np.asarray(image) for image in images]))
    return stacked.permute(0, 3, 1, 2).float() / 127.5 - 1


def psnr(pixels: torch.Tensor, others: torch.Tensor) -> float:
    errors = ((pixels - others) / 2).square().mean(dim=(1, 2, 3))
    return (-10 * errors.log10()).mean().item()


class RawFlux(torch.nn.Module):
    """TAEF1 with the raw latents of FLUX's own autoencoder."""

    def __init__(self, taef1: torch.nn.Module) -> None:
        super().__init__()
        self.taef1, self.device, self.dtype = taef1, taef1.device, taef1.dtype

    def encode(self, pixels: torch.Tensor) -> object:
        raw = self.taef1.encode(pixels).latents / 0.3611 + 0.1159

        class Output:
            class latent_dist:
                mode = staticmethod(lambda: raw)

        return Output


@pytest.mark.skipif(
    not (TAEF1.is_dir() and PHOTOS.is_dir()), reason="needs ../shared/data/taef1, flowers5_128"
)
def test_taef1_decodes_normalized_latents_of_flux():
    local = BLOCKS["taef1"].model_copy(update={"path": str(TAEF1), "sha256": None})
    taef1 = load_autoencoder(local, "cpu")
    flux = Autoencoder(RawFlux(taef1._model), BLOCKS["flux"], "0" * 64)
    pixels = photographs(4)
    latents = flux.encode(pixels)
    torch.testing.assert_close(latents, taef1.encode(pixels), rtol=1e-4, atol=1e-4)
    assert latents.std() == pytest.approx(1, abs=0.5)
    right = psnr(pixels, taef1.decode(latents))
    assert right > 22
    # without scale or shift the image is another
    for wrong in ({"scale": 1.0}, {"shift": -1.0}, {"scale": 0.13025}):
        other = Autoencoder(flux._model, BLOCKS["flux"].model_copy(update=wrong), "0" * 64)
        assert psnr(pixels, taef1.decode(other.encode(pixels))) < right - 2


@pytest.mark.skipif(not TAEF1.is_dir(), reason="needs ../shared/data/taef1")
def test_real_taef1_comes_through_the_hub(hub: StandInHub, tmp_path: Path):
    repo, _ = parse_address(BLOCKS["taef1"].path)
    shutil.copytree(TAEF1, tmp_path / "served")
    hub.model(repo.name, tmp_path / "served", repo.revision)
    block = BLOCKS["taef1"].model_copy(update={"sha256": file_sha256(TAEF1 / WEIGHTS)})
    manifest = encoded(drawn(tmp_path / "raw"), tmp_path / "latents", 64, autoencoder=block)
    assert all(0.3 < value < 2 for value in manifest.contract.std)
    config = json.loads((TAEF1 / CONFIG).read_bytes())
    assert (config["scaling_factor"], config["shift_factor"]) == (block.scale, block.shift)
