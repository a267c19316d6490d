"""Promises of the pipeline: which stages rerun, and what is recorded."""

import ast
import json
import re
from pathlib import Path
from typing import Any

import pytest
from dvc.repo import Repo
from helpers.checkout import PROJECT, Checkout, changed, leaves, read_params
from mlflow.entities import Run
from ruamel.yaml import YAML

from liquidgen.config.params import BLOCKS, STAGES, UNTRACKED, load_params
from liquidgen.runtime.fingerprint import imported
from liquidgen.tracking.store import Store

RAW = read_params(PROJECT / "params.yaml")
KEYS = [key for key in leaves(RAW) if "." in key]
PIPELINE = YAML(typ="safe").load(
    re.sub(r"\$\{(\w+)\}", lambda found: str(RAW[found[1]]), (PROJECT / "dvc.yaml").read_text())
)["stages"]
GROUP_STAGES = {"datasets": "download", "autoencoders": "encode", "models": "train"}
GROUP_STAGES |= {"blocks": "train"}
SWITCHED = {
    "dataset": [*STAGES],
    "image_size": [*STAGES][1:],
    "autoencoder": [*STAGES][1:],
    "model": [*STAGES][2:],
    "block": [*STAGES][2:],
}


def stage_of(key: str) -> str | None:
    """The stage whose settings a key of params.yaml belongs to; None: nothing depends on it."""
    section, name = key.split(".")[:2]
    if section in UNTRACKED or section == "descriptions":
        return None
    if section in STAGES:
        return section
    selector = {group: selector for selector, group in BLOCKS.items()}[section]
    return GROUP_STAGES[section] if name == RAW[selector] else None


TRACKED = [key for key in KEYS if stage_of(key)]
UNSELECTED = [key for key in KEYS if not stage_of(key)]


def another(value: Any) -> Any:
    """A value of the same kind that differs."""
    match value:
        case bool():
            return not value
        case int() | float():
            return value * 2 + 1
        case list():
            return [*value, value[0]]
        case None:
            return "something"
    return f"{value}_"


def value_of(params: dict[str, Any], key: str) -> Any:
    for name in key.split("."):
        params = params[name]
    return params


def out_of_date(checkout: Checkout, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Stages that `dvc status` lists; in this process, which is quicker than a new one."""
    monkeypatch.chdir(checkout.root)
    with Repo() as repo:
        status = repo.status()
    assert set(status) <= set(STAGES)
    return [stage for stage in STAGES if stage in status]


def files(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_stages_scripts_and_sections_share_their_names():
    assert list(PIPELINE) == list(STAGES)
    assert {path.stem for path in (PROJECT / "stages").glob("[!_]*.py")} == set(STAGES)
    for name, stage in PIPELINE.items():
        assert stage["cmd"] == f"exec python -m stages.{name}"
        assert name in stage["params"]


def test_stages_write_where_the_settings_say():
    params = load_params(PROJECT / "params.yaml")
    outs = {name: set(stage["outs"] + stage.get("metrics", [])) for name, stage in PIPELINE.items()}
    metrics = params.metrics_folder
    assert outs == {
        "download": {str(params.raw_folder)},
        "encode": {str(params.latents_folder)},
        "train": {str(params.model_folder), f"{metrics}/train.csv", f"{metrics}/train.json"},
        "sample": {str(params.samples_folder)},
        "evaluate": {str(params.evaluation_folder), f"{metrics}/evaluate.json"},
    }


def code_of(stage: str) -> list[str]:
    """The stage's dependencies that are code."""
    return [entry for entry in PIPELINE[stage]["deps"] if not entry.startswith("data/")]


def modules_of(stage: str) -> set[str]:
    """Files whose code can change the stage's outputs."""
    found = imported(f"liquidgen.stages.{stage}.stage")
    by_name = {
        "liquidgen.features": RAW["evaluate"]["features"],
        "liquidgen.models.blocks": RAW["block"],
    }
    for package in by_name.keys() & found:
        found |= imported(f"{package}.{by_name[package]}")
    return {str(path.relative_to(PROJECT)) for path in found.values()} | {f"stages/{stage}.py"}


@pytest.mark.parametrize("stage", STAGES)
def test_dependencies_are_the_imported_packages(stage: str):
    entries = code_of(stage)
    assert len(set(entries)) == len(entries)
    assert [entry for entry in entries if not (PROJECT / entry).exists()] == []
    # packages without code of their own: an `__init__.py` that holds nothing but a docstring
    modules = {path for path in modules_of(stage) if not empty(PROJECT / path)}
    covered = {entry: {path for path in modules if within(path, entry)} for entry in entries}
    assert modules - set().union(*covered.values()) == set()  # nothing is missing
    assert [entry for entry, paths in covered.items() if not paths] == []  # nor superfluous


def within(path: str, entry: str) -> bool:
    return path == entry or path.startswith(f"{entry}/")


def empty(path: Path) -> bool:
    tree = ast.parse(path.read_text())
    return all(isinstance(node, ast.Expr) for node in tree.body)


# which stages run again after an edit of each package
ROOMS = {
    "liquidgen/api.py": [],
    "liquidgen/cli/health/doctor.py": [],
    "liquidgen/cli/sample.py": [],
    "liquidgen/cli/team/server.py": [],
    "liquidgen/cluster/connection.py": [],
    "liquidgen/compute/device.py": ["encode", "train", "sample", "evaluate"],
    "liquidgen/config/settings.py": [],
    "liquidgen/features/builtin.py": ["evaluate"],
    "liquidgen/figures/grid.py": ["sample", "evaluate"],
    "liquidgen/flow/matching.py": ["train", "sample"],
    "liquidgen/flow/solvers.py": ["sample"],
    "liquidgen/flow/time_sampling.py": ["train"],
    "liquidgen/generator/draw.py": ["sample"],
    "liquidgen/generator/model_folder.py": ["train", "sample"],
    "liquidgen/generator/run_file.py": ["train", "sample", "evaluate"],
    "liquidgen/hub/errors.py": [],
    "liquidgen/images/decode.py": ["download", "encode", "sample", "evaluate"],
    "liquidgen/latents/shards.py": ["encode", "train", "sample", "evaluate"],
    "liquidgen/latents/builtin/README.md": [],
    "liquidgen/latents/builtin/config.json": ["encode", "train", "sample", "evaluate"],
    "liquidgen/models/blocks/attention.py": [],  # not selected
    "liquidgen/models/blocks/liquid.py": ["train", "sample"],
    "liquidgen/models/layers/zigzag.py": ["train", "sample"],
    "liquidgen/notebook/live_view.py": [],
    "liquidgen/pipeline/card.py": [],
    "liquidgen/report/page.py": [],
    "liquidgen/runtime/runner.py": [],
    "liquidgen/score_names.py": ["evaluate"],
    "liquidgen/stages/download/sources/hub.py": ["download"],
    "liquidgen/stages/encode/encoder.py": ["encode"],
    "liquidgen/stages/train/learner.py": ["train"],
    "liquidgen/stages/sample/sample.py": ["sample"],
    "liquidgen/stages/evaluate/scores.py": ["evaluate"],
    "liquidgen/tracking/run.py": [],
    "liquidgen/utils/files.py": ["download", "encode", "train", "sample", "evaluate"],
}


def test_table_names_every_package():
    packages = {path.parent for path in (PROJECT / "liquidgen").rglob("*.py")}
    tried = {(PROJECT / path).parent for path in ROOMS}
    named = {package for package in packages if any(one.is_relative_to(package) for one in tried)}
    assert packages - named == {PROJECT / "liquidgen/stages/download/procedural"}


@pytest.mark.parametrize("path", ROOMS)
def test_code_edit_reruns_dependent_stages(
    path: str, pipeline: Checkout, monkeypatch: pytest.MonkeyPatch
):
    file = pipeline.root / path
    before = file.read_bytes()
    file.write_bytes(before + b"\n")
    try:
        assert out_of_date(pipeline, monkeypatch) == ROOMS[path]
    finally:
        file.write_bytes(before)


def test_finished_run_is_up_to_date(pipeline: Checkout, monkeypatch: pytest.MonkeyPatch):
    assert out_of_date(pipeline, monkeypatch) == []


@pytest.mark.parametrize("key", TRACKED)
def test_key_reruns_its_stage(key: str, pipeline: Checkout, monkeypatch: pytest.MonkeyPatch):
    value = another(value_of(pipeline.params, key))
    with pipeline.edited(changed(pipeline.params, {key: value})):
        assert out_of_date(pipeline, monkeypatch) == [stage_of(key)]


def test_machine_and_unselected_blocks_rerun_nothing(
    pipeline: Checkout, monkeypatch: pytest.MonkeyPatch
):
    assert {key.split(".")[0] for key in UNSELECTED} > {*UNTRACKED, "descriptions"}
    others = {key: another(value_of(pipeline.params, key)) for key in UNSELECTED}
    with pipeline.edited(changed(pipeline.params, others)):
        assert out_of_date(pipeline, monkeypatch) == []


@pytest.mark.parametrize("selector", SWITCHED)
def test_selector_switches_dependent_stages(
    selector: str, pipeline: Checkout, monkeypatch: pytest.MonkeyPatch
):
    params = pipeline.params
    other = another(params[selector])
    if group := BLOCKS.get(selector):
        params[group][other] = params[group][params[selector]]  # the same under another name
    with pipeline.edited(changed(params, {selector: other})):
        assert out_of_date(pipeline, monkeypatch) == SWITCHED[selector]


def test_second_run_runs_no_stage(checkout: Checkout):
    assert checkout.repro() == []


def test_sampling_setting_reruns_two_stages(checkout: Checkout):
    scores = checkout.root / "metrics/evaluate.json"
    earlier = scores.read_bytes()
    guidance = checkout.params["sample"]["guidance_scale"]
    with checkout.edited(changed(checkout.params, {"sample.guidance_scale": guidance + 2})):
        assert checkout.repro() == ["sample", "evaluate"]
        assert scores.read_bytes() != earlier
    assert checkout.repro() == []
    assert scores.read_bytes() == earlier


def test_first_model_comes_back_after_another(checkout: Checkout):
    models = checkout.root / "data/models"
    (first,) = models.iterdir()
    earlier = files(first)
    with checkout.edited(changed(checkout.params, {"model": "tiny"})):
        assert checkout.repro("train") == ["train"]
        assert len(list(models.iterdir())) == 2
    assert checkout.repro() == []
    assert files(first) == earlier


def test_equal_data_rerun_nothing(checkout: Checkout):
    folders = [checkout.root / "data/raw", checkout.root / "data/latents"]
    earlier = [files(folder) for folder in folders]
    assert all(earlier)
    assert checkout.repro("--force", "encode") == ["download", "encode"]
    assert [files(folder) for folder in folders] == earlier
    assert checkout.repro() == []


def test_comment_costs_no_training_step(checkout: Checkout):
    (model,) = (checkout.root / "data/models").iterdir()
    state = checkout.root / "work/train"
    earlier, checkpoints = files(model), sorted(state.rglob("step-*"))
    assert checkpoints
    with open(checkout.root / "liquidgen/stages/train/learner.py", "a") as file:
        file.write("# a comment\n")
    assert checkout.repro() == ["train"]  # and no stage after it: the model has the same bytes
    assert files(model) == earlier
    assert sorted(state.rglob("step-*")) == checkpoints


def test_evaluate_writes_the_page(pipeline: Checkout):
    page = (pipeline.root / "reports/index.html").read_text()
    assert "nano procedural" in page
    assert page.count('data-group="grid"') == 1
    assert "Other runs are missing" not in page
    assert pipeline.run("git", "status", "--porcelain", "reports").stdout == ""


@pytest.fixture(scope="module")
def runs(pipeline: Checkout) -> dict[str, list[Run]]:
    """The recorded runs of each stage."""
    client = Store(pipeline.root).client
    experiments = {e.name: e.experiment_id for e in client.search_experiments()}
    name = pipeline.params["tracking"]["experiment"]
    found: dict[str, list[Run]] = {}
    for run in client.search_runs([experiments[name], experiments[f"{name}-data"]]):
        found.setdefault(run.data.tags["stage"], []).append(run)
    return found


def test_each_stage_is_recorded_once(runs: dict[str, list[Run]]):
    assert {stage: len(found) for stage, found in runs.items()} == dict.fromkeys(STAGES, 1)
    assert {run.info.status for found in runs.values() for run in found} == {"FINISHED"}


def test_training_is_one_row(pipeline: Checkout, runs: dict[str, list[Run]]):
    (run,) = runs["train"]
    data = run.data
    assert data.params["train.batch_size"] == str(pipeline.params["models"]["nano"]["batch_size"])
    assert data.params["dataset.num_images"] == "200"
    for name, scores in {
        "train": json.loads((pipeline.root / "metrics/train.json").read_bytes()),
        "evaluate": json.loads((pipeline.root / "metrics/evaluate.json").read_bytes()),
    }.items():
        scores = {key: value for key, value in scores.items() if isinstance(value, float | int)}
        assert scores
        recorded = {key: data.metrics[f"{name}/{key}"] for key in scores}
        assert recorded == pytest.approx(scores, rel=1e-4)  # five digits
    assert data.params["sample.num_inference_steps"] == str(
        pipeline.params["sample"]["num_inference_steps"]
    )
    assert [entry.dataset.name for entry in run.inputs.dataset_inputs] == ["procedural-64-builtin"]


def test_sample_and_evaluate_are_children_of_training(runs: dict[str, list[Run]]):
    (parent,) = runs["train"]
    for stage in ("sample", "evaluate"):
        assert runs[stage][0].data.tags["mlflow.parentRunId"] == parent.info.run_id
        assert runs[stage][0].info.experiment_id == parent.info.experiment_id


def test_data_stages_are_recorded_apart(runs: dict[str, list[Run]]):
    experiments = {stage: runs[stage][0].info.experiment_id for stage in STAGES}
    assert experiments["download"] == experiments["encode"] != experiments["train"]
    assert runs["encode"][0].data.metrics == {"encode/train": 160, "encode/holdout": 40}
    assert runs["download"][0].data.params["download.split_seed"] == "0"


def test_images_are_shown_with_training(pipeline: Checkout, runs: dict[str, list[Run]]):
    (parent,) = runs["train"]
    images = Store(pipeline.root).client.list_artifacts(parent.info.run_id, "images")
    names = {re.match(r"\w+", Path(image.path).name)[0] for image in images}
    assert names == {"preview", "samples"}
