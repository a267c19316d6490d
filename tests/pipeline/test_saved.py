"""A saved pipeline is checked before it is loaded: any damage or forgery is one line."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers.damage import flip_a_bit
from safetensors.torch import load_file, save_file

from liquidgen import LiquidGenPipeline
from liquidgen.pipeline.saved import Weights
from liquidgen.utils.errors import UserError

pytestmark = pytest.mark.fault("forged and damaged pipelines")

INDEX = "model_index.json"
WEIGHTS = "diffusion_pytorch_model.safetensors"
CONFIGS = ("liquidnet/config.json", "autoencoder/config.json", "scheduler/scheduler_config.json")
FILES = (INDEX, *CONFIGS, f"liquidnet/{WEIGHTS}", f"autoencoder/{WEIGHTS}")


@pytest.fixture(scope="module")
def saved(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("saved") / "pipeline"
    LiquidGenPipeline.from_pretrained(model).save_pretrained(folder)
    return folder


@pytest.fixture
def copy(saved: Path, tmp_path: Path) -> Path:
    shutil.copytree(saved, tmp_path / "copy")
    return tmp_path / "copy"


def refusal(folder: Path) -> str:
    with pytest.raises(UserError) as refused:
        LiquidGenPipeline.from_pretrained(folder)
    message = str(refused.value)
    assert "\n" not in message
    assert str(folder) in message
    return message


def changed(path: str, **changes: object) -> Callable[[Path], None]:
    """Return a function that changes keys of a JSON file; `facts__x` is the key x of facts."""

    def change(folder: Path) -> None:
        content = json.loads((folder / path).read_bytes())
        for key, value in changes.items():
            *parents, last = key.split("__")
            section = content
            for parent in parents:
                section = section[parent]
            section[last] = value
        (folder / path).write_text(json.dumps(content))

    return change


def test_saved_pipeline_carries_digests_of_both_weights(saved: Path):
    index = json.loads((saved / INDEX).read_bytes())
    assert index["weights"] == Weights.of(saved).model_dump()
    LiquidGenPipeline.from_pretrained(saved)


@pytest.mark.parametrize("network", ["liquidnet", "autoencoder"])
@pytest.mark.parametrize("place", [0.2, 0.5, 1.0])
def test_flipped_bit_in_weights_is_refused(copy: Path, network: str, place: float):
    flip_a_bit(copy / network / WEIGHTS, place)
    message = refusal(copy)
    assert f"{network}/{WEIGHTS}: damaged, its sha256 is not the recorded one" in message
    assert "download or save it again" in message


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", ["missing", "empty", "cut", "text", "folder"])
def test_damaged_file_is_one_line(copy: Path, name: str, damage: str):
    path = copy / name
    data = path.read_bytes()
    path.unlink()
    if damage == "folder":
        path.mkdir()
    elif damage != "missing":
        path.write_bytes({"empty": b"", "cut": data[: len(data) // 2], "text": b"no"}[damage])
    refusal(copy)


FORGERIES = {
    "other network": changed(INDEX, liquidnet=["os", "system"]),
    "other autoencoder": changed(INDEX, autoencoder=["diffusers", "AutoencoderKL"]),
    "other library": changed(INDEX, scheduler=["transformers", "Scheduler"]),
    "no scheduler": changed(INDEX, scheduler=["diffusers", "AutoencoderKL"]),
    "unknown scheduler": changed(INDEX, scheduler=["diffusers", "NoSuchScheduler"]),
    "extra component": changed(INDEX, extra=["diffusers", "AutoencoderKL"]),
    "null component": changed(INDEX, liquidnet=[None, None]),
    "no facts": changed(INDEX, facts=None),
    "other classes": changed(INDEX, facts__classes=["a", "b"]),
    "classes doubled": changed(INDEX, facts__classes=["a", "a", "b"]),
    "short mean": changed(INDEX, facts__contract__mean=[0.0]),
    "other size": changed(INDEX, facts__contract__image_size=64),
    "other channels": changed(INDEX, facts__contract__autoencoder__channels=4),
    "no recipe": changed(INDEX, facts__recipe={}),
    "scores a text": changed(INDEX, scores="good"),
    "odd digests": changed(INDEX, weights={"liquidnet": "0"}),
    "endless network": changed("liquidnet/config.json", depth=[10**7, 2]),
    "blocks at another level": changed("liquidnet/config.json", depth=[2, 4]),
    "fewer levels": changed("liquidnet/config.json", width=[16], depth=[6]),
    "one wide level": changed("liquidnet/config.json", width=16 * 10**6, depth=6),
    "levels without widths": changed("liquidnet/config.json", depth=[2, 2, 2]),
    "no patches": changed("liquidnet/config.json", patch_size=0),
    "wide level": changed("liquidnet/config.json", width=[16, 32 * 10**6]),
    "level beyond all numbers": changed("liquidnet/config.json", width=[16, 2**40]),
    "endless autoencoder": changed(
        "autoencoder/config.json", encoder_layers_per_block=[10**7, 1, 1, 1]
    ),
    "wide autoencoder": changed(
        "autoencoder/config.json", decoder_block_out_channels=[32, 64, 2**20, 2**20]
    ),
    "odd autoencoder": changed("autoencoder/config.json", encoder_block_types=7),
    "odd stages": changed("autoencoder/config.json", encoder_block_out_channels=7),
    "no stages": changed("autoencoder/config.json", encoder_block_out_channels=[]),
    "list of keys": lambda folder: (folder / "autoencoder/config.json").write_text("[]"),
    "nested keys": lambda folder: (folder / "autoencoder/config.json").write_text("[" * 10**5),
    "nested network": lambda folder: (folder / "liquidnet/config.json").write_text("[" * 10**5),
    "nested index": lambda folder: (folder / INDEX).write_text("[" * 10**5),
    "odd scheduler": changed("scheduler/scheduler_config.json", num_train_timesteps="many"),
}


@pytest.mark.parametrize("forgery", FORGERIES)
def test_forged_pipeline_is_one_line(copy: Path, forgery: str):
    FORGERIES[forgery](copy)
    refusal(copy)


def test_pipeline_of_an_earlier_version_loads_with_a_warning(
    copy: Path, caplog: pytest.LogCaptureFixture
):
    content = json.loads((copy / INDEX).read_bytes())
    del content["weights"]
    (copy / INDEX).write_text(json.dumps(content))
    LiquidGenPipeline.from_pretrained(copy)
    assert "saved by an earlier version" in caplog.text


def test_weights_that_fit_no_network_are_one_line(copy: Path):
    """With digests that are right."""
    path = copy / "liquidnet" / WEIGHTS
    tensors = load_file(path)
    tensors.pop("out_mix.bias")
    save_file(tensors, path, {"format": "pt"})
    changed(INDEX, weights=Weights.of(copy).model_dump())(copy)
    assert "out_mix.bias" in refusal(copy)
