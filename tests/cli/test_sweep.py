"""`liquidgen sweep`: scores of a small model at a grid of settings."""

import csv

import pytest
from helpers.small_data import folder, prepared, procedural
from helpers.small_model import network
from PIL import Image
from ruamel.yaml import YAML

from liquidgen.cli import main, sweep
from liquidgen.config.params import load_params
from liquidgen.generator.model_folder import ModelMetadata, load_model, save_model
from liquidgen.latents.manifest import read_manifest
from liquidgen.stages.download.procedural import draw

SIDE = 32
CHANGES = {
    "image_size": SIDE,
    "sample": {"num_images": 20, "batch_size": 20},
    "evaluate": {"kid_subset_size": 10, "kid_subsets": 5, "nearest_k": 3},
    "machine": {"device": "cpu", "num_workers": 0},
}
GRID = ("sweep", "--guidance-scale", "1,2", "--num-inference-steps", "4", "--solver", "euler,heun")


def project_of(root, dataset):
    """Fill a folder with settings and small data."""
    raw = load_params().raw
    for key, value in CHANGES.items():
        raw[key] = raw[key] | value if isinstance(value, dict) else value
    YAML(typ="safe").dump(raw, root / "params.yaml")
    params = load_params(root / "params.yaml")
    made = prepared(root / "made", dataset, SIDE)
    for name, target in (("raw", params.raw_folder), ("latents", params.latents_folder)):
        (root / target).parent.mkdir(parents=True)
        (made / name).rename(root / target)
    return root


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A folder with settings and small data."""
    dataset = procedural(num_images=60, render_size=SIDE, holdout_fraction=0.4)
    return project_of(tmp_path_factory.mktemp("project"), dataset)


@pytest.fixture(scope="module")
def model(project):
    return model_of(project)


def model_of(project):
    """Save a small model of random weights; returns its folder."""
    params = load_params(project / "params.yaml")
    manifest = read_manifest(project / params.latents_folder)
    metadata = ModelMetadata(
        name="small",
        classes=manifest.classes,
        contract=manifest.contract,
        dataset="small",
        license="CC0-1.0",
        recipe={"label_dropout": 0.1},
        latents_digest=manifest.digest,
        num_epochs=1,
        num_steps=1,
        parameters=1,
    )
    path = project / params.model_folder
    save_model(path, network(len(manifest.classes or ())), metadata, "run")
    return path


def swept(project, monkeypatch, *arguments):
    monkeypatch.chdir(project)
    with pytest.raises(SystemExit) as stop:
        main([*arguments])
    return stop.value.code


def test_grid_is_scored_once_and_drawn(project, model, monkeypatch, capsys):
    assert not swept(project, monkeypatch, *GRID)
    first = capsys.readouterr().out
    assert "sweep: 4 of 4: guidance 2, 4 heun steps" in first
    folder = project / "work/sweep" / load_params(project / "params.yaml").run_name
    rows = list(csv.DictReader((folder / "sweep.csv").read_text().splitlines()))
    calls = {
        (r["guidance_scale"], r["num_inference_steps"], r["solver"]): int(r["calls"]) for r in rows
    }
    assert len(calls) == 4
    assert calls["1.0", "4", "euler"] == 4
    assert calls["2.0", "4", "heun"] == 2 * 7
    for row in rows:
        for name in ("fd", "fd_pca", "kid"):
            assert float(row[f"{name}_low"]) <= float(row[name]) <= float(row[f"{name}_high"])
    assert len({row["fd"] for row in rows}) == 4
    for name in ("guidance.png", "calls.png"):
        with Image.open(folder / name) as image:
            assert image.width > 1000
    # another call keeps what was scored
    assert not swept(project, monkeypatch, "sweep", "--guidance-scale", "2", *GRID[3:])
    assert " of 2: " not in capsys.readouterr().out
    assert len(list((folder / "points").iterdir())) == 4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--num-inference-steps", "ten"), "--num-inference-steps: 'ten' is no list of numbers"),
        (("--guidance-scale", "0.5"), "sample.guidance_scale"),
        (("--solver", "rk4"), "sample.solver"),
    ],
)
def test_mistakes_are_one_line(project, model, monkeypatch, arguments, message):
    code = swept(project, monkeypatch, "sweep", *arguments)
    assert message in code
    assert "\n" not in code


def test_missing_model_is_one_line(project, tmp_path, monkeypatch):
    (tmp_path / "params.yaml").write_text((project / "params.yaml").read_text())
    assert "no trained model there; run `dvc repro`" in swept(tmp_path, monkeypatch, "sweep")


def test_guidance_that_a_model_cannot_use_is_drawn_once(tmp_path, monkeypatch, capsys):
    """A model without classes has nothing to guide to."""
    (tmp_path / "images").mkdir()
    for number in range(60):
        draw("hills", SIDE, number).save(tmp_path / "images" / f"{number}.png")
    images = folder(tmp_path / "images", labels="none", holdout_fraction=0.4)
    unlabeled = project_of(tmp_path, images)
    model_of(unlabeled)
    arguments = ("--guidance-scale", "1,2,4", "--num-inference-steps", "4", "--solver", "euler")
    assert not swept(unlabeled, monkeypatch, "sweep", *arguments)
    assert "sweep: 1 points, lowest fd_pca with guidance 1, 4 euler" in capsys.readouterr().out
    (table,) = (unlabeled / "work/sweep").glob("*/sweep.csv")
    (row,) = csv.DictReader(table.read_text().splitlines())
    assert (row["guidance_scale"], row["calls"]) == ("1.0", "4")


def test_point_is_keyed_by_the_code_that_is_imported_by_name(project, model, monkeypatch):
    """That of the feature network and of the block, and the libraries that compute."""
    asked = []

    def noted(*modules):
        asked.extend(modules)
        return "code"

    monkeypatch.chdir(project)
    monkeypatch.setattr(sweep, "fingerprint", noted)
    params = load_params()
    sweep.made_from(params, *load_model(params.model_folder))
    assert {"liquidgen.features.builtin", "liquidgen.models.blocks.liquid"} < set(asked)
