"""The Python interface: TrainConfig, train, and installation from a wheel."""

import ast
import asyncio
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from helpers.checkout import PROJECT
from helpers.small_settings import SMALL
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from PIL.Image import Image
from ruamel.yaml import YAML

import liquidgen
from liquidgen import LiquidGenPipeline, TrainConfig, api, train
from liquidgen.api import KEYS, params_file
from liquidgen.cache import latents_entry
from liquidgen.config.params import load_params
from liquidgen.generator.run_file import read_run
from liquidgen.latents import weights
from liquidgen.latents.manifest import read_manifest
from liquidgen.notebook.drive_backup import Backup
from liquidgen.pipeline import pipeline
from liquidgen.tracking.store import Store
from liquidgen.utils.errors import UserError

FIELDS = {
    "model_size": "nano",
    "dataset_preset": "procedural",
    "image_size": 32,
    "batch_size": 16,
    "num_epochs": 1,
    "learning_rate": 1e-3,
}


class Callback:
    """Records what it is called with."""

    def __init__(self) -> None:
        self.points: list[int] = []
        self.images: list[tuple[Image, str, int]] = []

    def log_metrics(self, metrics: dict[str, float], step: int) -> None:
        self.points.append(step)

    def log_image(self, image: Image, key: str, step: int) -> None:
        self.images.append((image, key, step))


@pytest.fixture
def folder(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the folder of a first training, as the current folder."""
    shutil.copytree(trained, tmp_path / "folder")
    monkeypatch.chdir(tmp_path / "folder")
    return tmp_path / "folder"


@pytest.fixture(scope="module")
def callback() -> Callback:
    return Callback()


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, callback: Callback) -> Path:
    """A folder in which nothing but a training from Python ran."""
    folder = tmp_path_factory.mktemp("python")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        model = train(TrainConfig(**FIELDS, settings=SMALL), callbacks=[callback])
    assert model == Path("data/models/procedural-32-builtin-nano-liquid")
    return folder


def train_again(capsys: pytest.CaptureFixture[str], **changes: object) -> str:
    """Train again with other fields; returns what was printed."""
    settings = SMALL | changes.pop("settings", {})
    train(TrainConfig(**FIELDS | changes, settings=settings))
    return capsys.readouterr().out


def test_config_fields_set_only_their_keys():
    flat = load_params(PROJECT / "params.yaml").flat()
    found = TrainConfig(**FIELDS).params().flat()
    assert {KEYS[name]: value for name, value in FIELDS.items()}.items() <= found.items()
    same = {key for key in flat if key not in KEYS.values() and not key.startswith("model.")}
    assert {key: found[key] for key in same} == {key: flat[key] for key in same}


def test_config_without_fields_is_params_yaml():
    assert TrainConfig().params() == load_params(PROJECT / "params.yaml")


ORIGINAL = {
    "model_size": "small",
    "dataset_preset": "paintings",
    "image_size": 256,
    "batch_size": 32,
    "num_epochs": 100,
    "learning_rate": 1e-4,
}


def test_call_of_the_original_means_what_the_table_says():
    text = (PROJECT / "docs/experiments.md").read_text()
    rows = re.findall(r"^\| .* \| `([a-z][\w.]+)` \| `(.+)` \|$", text, re.MULTILINE)
    assert len(rows) > 15
    params = TrainConfig(**ORIGINAL).params()
    assert params.run_name == "paintings-256-flux-small-liquid"
    found = params.flat()
    for key, value in rows:
        section, _, name = key.rpartition(".")
        path = {"autoencoders.flux": "autoencoder", "models.small": "model"}.get(section, section)
        assert found[f"{path}.{name}".lstrip(".")] == YAML(typ="safe").load(value), key
    assert set(KEYS.values()) <= {key for key, _ in rows}
    defaults = (pipeline.NUM_INFERENCE_STEPS, pipeline.GUIDANCE_SCALE)
    assert defaults == (params.sample.num_inference_steps, params.sample.guidance_scale)


def test_call_in_the_docs_is_that_of_the_original():
    text = (PROJECT / "docs/experiments.md").read_text()
    (call,) = re.findall(r"TrainConfig\(\s+model_size=\"small\",[^)]+\)", text)
    assert eval(call) == TrainConfig(**ORIGINAL)


@pytest.mark.parametrize(
    ("config", "autoencoder"),
    [
        ({"image_size": 256}, "flux"),
        ({"settings": {"image_size": 512}}, "flux"),
        ({"image_size": 128}, "builtin"),
        ({}, "builtin"),
        ({"image_size": 256, "autoencoder": "sdxl"}, "sdxl"),
        ({"image_size": 256, "settings": {"autoencoder": "taef1"}}, "taef1"),
        ({"image_size": 64, "autoencoder": "flux"}, "flux"),
    ],
)
def test_autoencoder_that_is_left_out(config: dict, autoencoder: str):
    asked = TrainConfig(**config)
    assert asked.params().selectors.autoencoder == autoencoder
    size = config.get("image_size") or config.get("settings", {}).get("image_size")
    named = "autoencoder" in config or "autoencoder" in config.get("settings", {})
    if autoencoder == "flux" and not named:
        rule = f"autoencoder: flux, as image_size is {size}; TrainConfig(autoencoder=...) takes ano"
        assert asked.note().startswith(rule)
    else:
        assert asked.note() is None


@pytest.mark.parametrize(
    ("before", "after", "autoencoder"),
    [
        ("autoencoder: builtin", "autoencoder: sdxl", "sdxl"),
        ("autoencoder: builtin", "autoencoder: taef1", "taef1"),
        ("flux:", "flux_of_mine:", "builtin"),  # its block, and in `descriptions`
    ],
)
def test_only_the_builtin_autoencoder_is_replaced(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    before: str,
    after: str,
    autoencoder: str,
):
    monkeypatch.chdir(tmp_path)
    text = (PROJECT / "params.yaml").read_text()
    changed = re.sub(f"(?m)^( *){before}", rf"\1{after}", text)
    assert changed != text
    (tmp_path / "params.yaml").write_text(changed)
    asked = TrainConfig(image_size=256)
    assert asked.params().selectors.autoencoder == autoencoder
    assert asked.note() is None


def test_autoencoder_that_was_taken_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(api, "_run_stages", lambda *arguments: iter(()))
    assert train(TrainConfig(**ORIGINAL)) == Path("data/models/paintings-256-flux-small-liquid")
    assert capsys.readouterr().out.startswith("autoencoder: flux, as image_size is 256;")


@pytest.mark.parametrize(
    ("config", "rule"),
    [
        ({"model_size": "smal"}, "model: no block 'smal' in models; did you mean small?"),
        ({"dataset_preset": "proc"}, "no block 'proc' in datasets; did you mean procedural?"),
        ({"model_size": "xl"}, "in models; there are base, large, nano, small, tiny"),
        ({"batch_size": 0}, "train.batch_size: "),
        ({"learning_rate": "fast"}, "train.learning_rate: "),
        ({"settings": {"train.lerning_rate": 1}}, "did you mean train.learning_rate?"),
        ({"settings": {"nothing.at.all": 1}}, "nothing.at.all: unknown key"),
        ({"settings": {"train": 3}}, "train: must be a section with keys, but it is 3"),
        ({"settings": {"datasets.mine": {"kind": "folder"}}}, "datasets.mine.path: missing key"),
        ({"settings": {"machine.num_processes": 2}}, "machine.num_processes: more than one"),
    ],
)
def test_config_error_names_key_and_writes_nothing(
    config: dict, rule: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError) as refused:
        train(TrainConfig(**config))
    assert rule in str(refused.value)
    assert list(tmp_path.iterdir()) == []


def test_train_in_worker_process_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UserError, match="start no torchrun"):
        train(TrainConfig())


def test_config_can_add_dataset_block():
    mine = {"kind": "folder", "path": "pictures", "labels": "none", "max_images": None}
    mine |= {"holdout_fraction": 0.1, "license": "own"}
    config = TrainConfig(dataset_preset="mine", settings={"datasets.mine": mine})
    assert config.params().dataset.path == "pictures"


def test_params_yaml_of_current_folder_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    assert params_file() == PROJECT / "params.yaml"
    text = (PROJECT / "params.yaml").read_text()
    (tmp_path / "params.yaml").write_text(text.replace("model: nano", "model: tiny"))
    assert TrainConfig().params().selectors.model == "tiny"


def test_train_writes_files_of_stages(trained: Path):
    params = TrainConfig(**FIELDS, settings=SMALL).params()
    model = trained / params.model_folder
    assert read_manifest(trained / params.latents_folder).splits["train"].count == 95
    assert json.loads((trained / "metrics/train.json").read_bytes())["num_steps"] == 5
    run = Store(trained).client.get_run(read_run(model))
    assert run.data.params["train.batch_size"] == "16"
    assert run.info.status == "FINISHED"


def test_trained_model_draws(trained: Path):
    pipe = LiquidGenPipeline.from_pretrained(
        trained / "data/models/procedural-32-builtin-nano-liquid"
    )
    pipe.set_progress_bar_config(disable=True)
    assert pipe("hills", num_inference_steps=2).images[0].size == (32, 32)


def test_callback_gets_metrics_and_images(trained: Path, callback: Callback):
    assert sorted(set(callback.points)) == [1, 2, 3, 4, 5]
    ((image, key, step),) = callback.images
    assert (key, step) == ("preview", 5)
    assert image.width > 32


def test_existing_data_are_reused(folder: Path, capsys: pytest.CaptureFixture[str]):
    before = {path: path.stat().st_mtime_ns for path in (folder / "data/raw").rglob("*")}
    printed = train_again(capsys)
    assert printed.count("kept from an earlier call") == 2
    assert {path: path.stat().st_mtime_ns for path in (folder / "data/raw").rglob("*")} == before


def test_more_epochs_continue_training(folder: Path, capsys: pytest.CaptureFixture[str]):
    first = json.loads((folder / "metrics/train.json").read_bytes())
    printed = train_again(capsys, num_epochs=2)
    assert "train: 10 steps" in printed
    curve = (folder / "metrics/train.csv").read_text().splitlines()
    assert curve[1].startswith(f"1.0,{first['loss']}")


def test_train_works_in_any_thread(folder: Path, capsys: pytest.CaptureFixture[str]):
    changes = {"settings": {"train.seed": 1, "encode.flip": True}}
    printed = asyncio.run(asyncio.to_thread(train_again, capsys, **changes))
    assert "encode: " in printed
    assert "train: 11 steps" in printed


def test_training_continues_from_backup_on_fresh_machine(
    trained: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    Backup(tmp_path / "drive", trained).save()
    (tmp_path / "fresh").mkdir()
    monkeypatch.chdir(tmp_path / "fresh")
    Backup(tmp_path / "drive")
    printed = train_again(capsys, num_epochs=2)
    assert printed.count("kept from an earlier call") == 2
    first = json.loads((trained / "metrics/train.json").read_bytes())
    curve = Path("metrics/train.csv").read_text().splitlines()
    assert curve[1].startswith(f"1.0,{first['loss']}")


@pytest.mark.parametrize(
    ("changes", "kept"),
    [
        ({"settings": {"datasets.procedural.seed": 1}}, 0),
        ({"settings": {"encode.flip": True}}, 1),
        ({"image_size": 16}, 1),
        ({"learning_rate": 2e-3}, 2),
    ],
)
def test_changed_setting_makes_dependent_data_again(
    folder: Path, capsys: pytest.CaptureFixture[str], changes: dict, kept: int
):
    assert train_again(capsys, **changes).count("kept from an earlier call") == kept


def test_damaged_data_are_made_again(folder: Path, capsys: pytest.CaptureFixture[str]):
    shard = next(folder.rglob("train-00000.tar"))
    whole = shard.read_bytes()
    shard.write_bytes(whole[:-1000])
    assert train_again(capsys).count("kept from an earlier call") == 1
    assert shard.read_bytes() == whole


def test_other_builtin_weights_make_latents_stale(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    params = TrainConfig(**FIELDS, settings=SMALL).params()
    assert latents_entry(params, folder).is_valid()
    other = shutil.copytree(weights.SHIPPED, tmp_path / "builtin")
    (other / weights.WEIGHTS).write_bytes(b"other weights")
    monkeypatch.setattr(weights, "SHIPPED", other)
    assert not latents_entry(params, folder).is_valid()


def test_import_loads_nothing_heavy():
    code = "import sys, liquidgen; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"torch", "numpy", "pydantic", "diffusers"} & set(done.stdout.split())
    code = "import sys; from liquidgen import TrainConfig, train; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"torch", "diffusers", "mlflow", "pyarrow"} & set(done.stdout.split())


def test_public_names_exist():
    assert set(liquidgen.__all__) == {"LiquidGenPipeline", "TrainConfig", "train"}
    assert all(callable(getattr(liquidgen, name)) for name in liquidgen.__all__)
    with pytest.raises(AttributeError, match="no attribute 'tain'"):
        getattr(liquidgen, "tain")  # noqa: B009


def test_imported_packages_are_declared():
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    lines = sum(
        (extras[name] for name in ("cluster", "demo", "dinov2", "pipeline", "team")),
        project["dependencies"],
    )
    declared = {canonicalize_name(Requirement(line).name) for line in lines}
    imported = set()
    for file in (PROJECT / "liquidgen").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                imported |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                imported.add(node.module.split(".")[0])
    holders = packages_distributions()
    undeclared = {
        name
        for name in imported - sys.stdlib_module_names - {"liquidgen", "IPython"}  # of notebooks
        # an extra need not be installed
        if not declared & {canonicalize_name(one) for one in (name, *holders.get(name, ()))}
    }
    assert not undeclared


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with LiquidGen installed from a wheel of this checkout."""
    source, target = (tmp_path_factory.mktemp(name) for name in ("source", "installed"))
    for name in ("liquidgen", "params.yaml", "setup.py", "pyproject.toml", "README.md", "LICENSE"):
        copy = shutil.copytree if (PROJECT / name).is_dir() else shutil.copyfile
        copy(PROJECT / name, source / name)
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation"]
    options = ["--no-index", "--disable-pip-version-check", "--target", str(target)]
    done = subprocess.run([*pip, *options, str(source)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return target


def run_installed(installed: Path, cwd: Path, *command: str) -> subprocess.CompletedProcess[str]:
    environment = {"PYTHONPATH": str(installed), "MLFLOW_TRACKING_URI": ""}
    return subprocess.run(
        command, capture_output=True, text=True, cwd=cwd, env=os.environ | environment
    )


SCRIPT = """
import liquidgen
from liquidgen import LiquidGenPipeline, TrainConfig, train

print("from", liquidgen.__file__)
model = train(TrainConfig(**{fields}, settings={settings}))
LiquidGenPipeline.from_pretrained(model)("hills", num_inference_steps=2).images[0].save("hills.png")
"""


def test_installed_wheel_trains_and_draws(installed: Path, tmp_path: Path):
    """As a script without a guard around its main part, with worker processes."""
    script = tmp_path / "script.py"
    settings = SMALL | {"machine.num_workers": 2}
    script.write_text(SCRIPT.format(fields=FIELDS, settings=settings))
    (tmp_path / "empty").mkdir()
    done = run_installed(installed, tmp_path / "empty", sys.executable, str(script))
    assert done.returncode == 0, done.stderr
    assert f"from {installed}" in done.stdout
    assert "train: 5 steps" in done.stdout
    assert "download: 100%" in done.stderr
    assert (tmp_path / "empty/hills.png").stat().st_size > 100
    shipped = (installed / "liquidgen/params.yaml").read_bytes()
    assert shipped == (PROJECT / "params.yaml").read_bytes()


def test_installed_wheel_has_command(installed: Path, tmp_path: Path):
    done = run_installed(installed, tmp_path, str(installed / "bin/liquidgen"), "presets")
    assert done.returncode == 0, done.stderr
    assert f"from {installed / 'liquidgen/params.yaml'}" in done.stdout
