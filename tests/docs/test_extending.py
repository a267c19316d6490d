"""Each row of docs/extending.md, done in a copy of the project or in a registry, and used."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from helpers import small_model
from helpers.checkout import PROJECT, Checkout, copy_project
from helpers.small_settings import SMALL_MODEL
from helpers.standin import StandInHub, presets
from PIL import Image
from ruamel.yaml import YAML

from liquidgen import LiquidGenPipeline, TrainConfig
from liquidgen.config.params import Params, load_params
from liquidgen.flow.schedulers import SOLVERS
from liquidgen.flow.solvers import scheduler_of
from liquidgen.flow.time_sampling import TIME_SAMPLINGS
from liquidgen.images.raw import RawDataset
from liquidgen.latents.autoencoder import load_autoencoder
from liquidgen.latents.weights import SHIPPED
from liquidgen.models.liquidnet import LiquidNet
from liquidgen.stages.download.download import download
from liquidgen.stages.download.procedural import STYLES
from liquidgen.stages.download.sources import SOURCES
from liquidgen.stages.train.learner import Learner

CPU = torch.device("cpu")
SETTINGS = "liquidgen/config/settings.py"
OPTIMIZERS = "liquidgen/stages/train/optimizers.py"


@pytest.fixture
def project(tmp_path: Path) -> Checkout:
    """A copy of the project in which nothing has run."""
    return copy_project(tmp_path / "project")


def edit(project: Checkout, path: str, line: str, *new: str) -> None:
    """Insert lines after a line of a file, which occurs once."""
    file = project.root / path
    content = file.read_text()
    assert content.count(f"{line}\n") == 1, f"{path}: {line!r}"
    file.write_text(content.replace(f"{line}\n", "\n".join([line, *new, ""])))


def add_key(project: Checkout, section: str, key: str, value: object) -> None:
    """Add a key to a section of params.yaml."""
    params = project.params
    params[section][key] = value
    project.write_params(params)


def add_block(project: Checkout, group: str, name: str, block: dict[str, Any]) -> Params:
    """Add a block and its description to params.yaml, and select it."""
    params = project.params
    params[group][name] = block
    params["descriptions"][group][name] = f"about {name}"
    params[group.removesuffix("s")] = name
    project.write_params(params)
    return load_params(project.root / "params.yaml")


def run(project: Checkout, code: str) -> str:
    """Run Python code of the copy; returns what it prints."""
    done = project.run("python", "-c", code)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


# ---- settings -----------------------------------------------------------------------------------


def test_setting_of_train(project: Checkout):
    add_key(project, "train", "adam_eps", 1e-6)
    edit(project, SETTINGS, "    grad_clip: Positive", "    adam_eps: Positive")
    line = "        betas=(beta1, beta2),"
    edit(project, OPTIMIZERS, line, "        eps=settings.adam_eps,")
    code = """
import torch
from liquidgen.config.params import load_params
from liquidgen.models.liquidnet import LiquidNet
from liquidgen.stages.train.learner import Learner
params = load_params()
size = params.model.model_dump()
model = LiquidNet(16, 8, 0, **size, block="liquid", block_settings=params.block)
print(Learner(model, params.train, torch.device("cpu")).optimizer.defaults["eps"])
"""
    assert run(project, code) == "1e-06"


def test_setting_of_train_reruns_no_stage_before_it(checkout: Checkout):
    add_key(checkout, "train", "adam_eps", 1e-6)
    edit(checkout, SETTINGS, "    grad_clip: Positive", "    adam_eps: Positive")
    status = json.loads(checkout.run("dvc", "status", "--json").stdout)
    assert list(status) == ["train"]


def test_setting_of_the_crop(project: Checkout):
    add_key(project, "encode", "min_side", 65)
    for path in (SETTINGS, "liquidgen/images/transform.py", "liquidgen/latents/contract.py"):
        edit(project, path, "    crop: Crop", "    min_side: int")
    line = "        scale = _scale(whole, size, transform.crop)"
    use = ["        if min(whole) < transform.min_side:", "            raise Refused(TOO_SMALL)"]
    edit(project, "liquidgen/images/decode.py", line, *use)
    refused = project.run("dvc", "repro", "encode")  # the images have 64 px
    assert refused.returncode != 0
    assert "too_small" in refused.stderr
    project.change(encode__min_side=64)
    assert project.repro("encode") == ["encode"]
    (manifest,) = project.root.glob("data/latents/*/manifest.json")
    assert json.loads(manifest.read_bytes())["contract"]["min_side"] == 64


# ---- blocks of params.yaml ----------------------------------------------------------------------


def test_model_size(project: Checkout, monkeypatch: pytest.MonkeyPatch):
    params = add_block(project, "models", "wide", SMALL_MODEL | {"width": [32, 48]})
    listed = project.run("python", "-m", "liquidgen", "presets").stdout.splitlines()
    assert [line.split(maxsplit=2) for line in listed if "wide" in line] == [
        ["*", "wide", "about wide"]
    ]
    size = params.model.model_dump()
    model = LiquidNet(16, 8, 0, **size, block="liquid", block_settings=params.block)
    assert model.config.width == [32, 48]
    monkeypatch.chdir(project.root)
    assert TrainConfig(model_size="wide").params().run_name.endswith("-wide-liquid")


def test_dataset_of_the_hub(project: Checkout, hub: StandInHub, tmp_path: Path):
    hub.dataset("me/cartoons", presets.cartoon(tmp_path / "served"), "main")
    block = project.params["datasets"]["cartoon"] | {"repo": "me/cartoons"}
    params = add_block(project, "datasets", "mine", block)
    download(params.dataset, params.download, tmp_path / "raw", num_workers=0)
    assert sum(RawDataset(tmp_path / "raw").counts.values()) == 40


def test_autoencoder(project: Checkout, tmp_path: Path):
    shutil.copytree(SHIPPED, tmp_path / "mine")
    block = project.params["autoencoders"]["builtin"] | {"path": str(tmp_path / "mine")}
    params = add_block(project, "autoencoders", "mine", block)
    autoencoder = load_autoencoder(params.autoencoder, CPU)
    assert autoencoder.encode(torch.zeros(1, 3, 32, 32)).shape == (1, 16, 4, 4)


def test_blocks_break_no_test(project: Checkout):
    """No test has a list of blocks that must be kept by hand."""
    for name in ("tests", "notebooks"):
        shutil.copytree(PROJECT / name, project.root / name)
    shutil.copyfile(PROJECT / "pyproject.toml", project.root / "pyproject.toml")
    yaml = YAML()  # keeps the comments, which tests read
    yaml.width = 1000
    params = yaml.load(PROJECT / "params.yaml")
    for group, like in {"models": "nano", "datasets": "cartoon", "autoencoders": "flux"}.items():
        params[group]["mine"] = params[group][like]
        params["descriptions"][group]["mine"] = "mine"
    yaml.dump(params, project.root / "params.yaml")
    command = [
        "python",
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "-k",
        "preset or form or description",
    ]
    command += ["tests/config", "tests/notebook", "tests/cli/test_cli.py", "tests/latents"]
    done = project.run(*command, "tests/stages/download/sources/test_hub.py")
    assert done.returncode == 0, done.stdout[-3000:]


# ---- registries ---------------------------------------------------------------------------------


def test_solver(model: Path, monkeypatch: pytest.MonkeyPatch):
    def dpm3() -> diffusers.SchedulerMixin:
        return diffusers.DPMSolverMultistepScheduler(
            prediction_type="flow_prediction", use_flow_sigmas=True, solver_order=3
        )

    monkeypatch.setitem(SOLVERS, "dpm3", dpm3)
    params = load_params(PROJECT / "params.yaml", {"sample.solver": "dpm3"})
    pipe = LiquidGenPipeline.from_pretrained(model)
    drawn = set()
    for solver in (params.sample.solver, "euler"):
        pipe.scheduler = scheduler_of(solver)
        drawn.add(pipe("hills", num_inference_steps=4).images[0].tobytes())
    assert len(drawn) == 2


def test_time_sampling(monkeypatch: pytest.MonkeyPatch):
    seen = []

    def early(uniforms: torch.Tensor) -> torch.Tensor:
        seen.append(len(uniforms))
        return uniforms.square()

    monkeypatch.setitem(TIME_SAMPLINGS, "early", early)
    params = load_params(PROJECT / "params.yaml", {"train.time_sampling": "early"})
    learner = Learner(small_model.network(3), params.train, CPU)
    learner.train_step(torch.randn(2, 16, 4, 4), torch.tensor([0, 1]))
    assert seen == [2]


def test_painting_style(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def red(canvas: object, generator: object) -> None:
        """Leave the canvas as it is."""

    monkeypatch.setitem(STYLES, "red", red)
    params = load_params(PROJECT / "params.yaml", {"datasets.procedural.num_images": 22})
    source = SOURCES["procedural"](params.dataset, params.download, 0)
    assert source.classes[-1] == "red"
    assert [record.label for record in source.records][10::11] == [10, 10]


def test_score(checkout: Checkout):
    path = "liquidgen/stages/evaluate/scores.py"
    content = (checkout.root / path).read_text()
    assert content.count("SCORES: tuple[Score, ...] = (") == 1
    function = "def brightness(features, settings):\n"
    function += '    return {"first_feature": features.samples.features[:, 0].mean().item()}\n\n\n'
    content = content.replace("Score = Callable", f"{function}Score = Callable", 1)
    content = content.replace("] = (distances,", "] = (brightness, distances,")
    (checkout.root / path).write_text(content)
    assert checkout.repro() == ["evaluate"]
    scores = json.loads((checkout.root / "metrics/evaluate.json").read_bytes())
    assert isinstance(scores["first_feature"], float)
    assert "first_feature" in checkout.run("dvc", "metrics", "show").stdout


# ---- code ---------------------------------------------------------------------------------------


def test_block_type(checkout: Checkout):
    """The example, as its docstring says."""
    shutil.copy(PROJECT / "examples/own_block.py", checkout.root / "liquidgen/models/blocks")
    add_block(checkout, "blocks", "own_block", {"kernel_size": 7, "expansion": 2})
    assert checkout.repro("sample") == ["train", "sample"]
    (grid,) = checkout.root.glob("data/samples/*-own_block/grid.png")
    with Image.open(grid) as image:
        assert image.width > 64


def test_kind_of_dataset(project: Checkout):
    sources = "liquidgen/stages/download/sources"
    (project.root / sources / "plain.py").write_text(
        """import io

from PIL import Image

from liquidgen.images.raw import Record
from liquidgen.stages.download.sources.base import Source


def open_plain(settings, download, num_workers):
    return Source(None, "CC0-1.0", "plain colors", None, settings.num_images, records(settings))


def records(settings):
    for i in range(settings.num_images):
        file = io.BytesIO()
        Image.new("RGB", (64, 64), (i, i, i)).save(file, "PNG")
        yield Record(file.getvalue(), f"{i}.png", None)
"""
    )
    line = "from liquidgen.stages.download.sources.folder import open_folder"
    edit(project, f"{sources}/__init__.py", line, line.replace("folder", "plain"))
    edit(
        project, f"{sources}/__init__.py", '    "folder": open_folder,', '    "plain": open_plain,'
    )
    members = "    ProceduralSettings | FolderSettings | ParquetSettings | HubSettings,"
    content = (project.root / SETTINGS).read_text()
    assert content.count(members) == 1
    settings = 'class PlainSettings(Settings):\n    kind: Literal["plain"]\n'
    settings += "    num_images: Count\n    holdout_fraction: Fraction\n\n\n"
    content = content.replace(
        members, members.replace("HubSettings", "HubSettings | PlainSettings")
    )
    content = content.replace("class FolderSettings", f"{settings}class FolderSettings")
    (project.root / SETTINGS).write_text(content)
    params = project.params
    params["datasets"]["mine"] = {"kind": "plain", "num_images": 20, "holdout_fraction": 0.1}
    params["dataset"] = "mine"
    project.write_params(params)
    assert project.repro("download") == ["download"]
    info = json.loads((project.root / "data/raw/mine/dataset.json").read_bytes())
    assert info["origin"] == "plain colors"
    assert project.run("python", "-m", "liquidgen", "presets").returncode == 0


def test_autoencoder_class(project: Checkout):
    """An asymmetric autoencoder of diffusers, encoded with in the copy."""
    kinds = '"dc", "tiny", "kl"'
    content = (project.root / SETTINGS).read_text()
    assert content.count(kinds) == 1
    (project.root / SETTINGS).write_text(content.replace(kinds, f'{kinds}, "asymmetric"'))
    entry = """    "asymmetric": Kind(
        "AsymmetricAutoencoderKL",
        "down_block_out_channels",
        lambda output: output.latent_dist.mode(),
    ),"""
    edit(project, "liquidgen/latents/weights.py", "KINDS = {", entry)
    diffusers.AsymmetricAutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        down_block_out_channels=(8, 8),
        up_block_out_channels=(8, 8),
        norm_num_groups=4,
    ).save_pretrained(project.root / "mine")
    block = project.params["autoencoders"]["builtin"]
    block |= {"kind": "asymmetric", "path": "mine", "channels": 4, "downscale": 2}
    add_key(project, "autoencoders", "mine", block)
    project.write_params(project.params | {"autoencoder": "mine"})
    code = """
import torch
from liquidgen.config.params import load_params
from liquidgen.latents.autoencoder import load_autoencoder
autoencoder = load_autoencoder(load_params().autoencoder, "cpu")
print(*autoencoder.encode(torch.zeros(1, 3, 32, 32)).shape)
"""
    assert run(project, code) == "1 4 16 16"


def test_decay_of_the_learning_rate(project: Checkout):
    line = "DECAYS: dict[str, Callable[[float], float]] = {"
    edit(project, OPTIMIZERS, line, '    "square": lambda done: (1 - done) ** 2,')
    settings = project.root / SETTINGS
    settings.write_text(settings.read_text().replace('"linear", "cosine"', '"linear", "square"'))
    project.change(train__learning_rate_decay="square")
    code = """
from liquidgen.config.params import load_params
from liquidgen.stages.train.optimizers import Decay, Schedule
shape = load_params().train.learning_rate_decay
print(Schedule(0, Decay(shape, start=0, end=1)).factor(0))
"""
    assert run(project, code) == "0.25"


def digest(project: Checkout) -> str:
    code = "from liquidgen.runtime.fingerprint import fingerprint as digest\n"
    return run(project, f"{code}print(digest('liquidgen.stages.train.trainer'))")


def use_of(module: str) -> Callable[[Checkout], None]:
    """Return an edit of the trainer that imports a module."""
    line = "from liquidgen.stages.train.learner import Batch, Learner"

    def apply(project: Checkout) -> None:
        edit(project, "liquidgen/stages/train/trainer.py", line, f"import {module}  # noqa: F401")

    return apply


def test_module_in_a_package(project: Checkout):
    (project.root / "liquidgen/stages/train/extra.py").write_text("VALUE = 1\n")
    use_of("liquidgen.stages.train.extra")(project)
    before = digest(project)
    (project.root / "liquidgen/stages/train/extra.py").write_text("VALUE = 2\n")
    assert digest(project) != before


def test_package(project: Checkout):
    """The test of dvc.yaml names a package that is not listed."""
    shutil.copytree(PROJECT / "tests", project.root / "tests")
    shutil.copyfile(PROJECT / "pyproject.toml", project.root / "pyproject.toml")
    package = project.root / "liquidgen/extra"
    package.mkdir()
    (package / "__init__.py").write_text("VALUE = 1\n")
    use_of("liquidgen.extra")(project)
    command = ["python", "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/test_dvc.py"]
    command += ["-k", "dependencies and train"]
    missing = project.run(*command)
    assert missing.returncode == 1
    assert "liquidgen/extra/__init__.py" in missing.stdout
    content = (project.root / "dvc.yaml").read_text()
    head, stage, rest = content.partition("  train:\n")
    compute = "      - liquidgen/compute\n"
    rest = rest.replace(compute, f"{compute}      - liquidgen/extra\n", 1)
    (project.root / "dvc.yaml").write_text(head + stage + rest)
    listed = project.run(*command)
    assert listed.returncode == 0, listed.stdout[-2000:]
