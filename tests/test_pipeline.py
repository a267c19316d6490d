"""What the pipeline promises: what reruns, what does not, and what is recorded."""

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import PROJECT, Checkout, changed, leaves, read_params
from dvc.repo import Repo
from mlflow.entities import Run
from ruamel.yaml import YAML

from liquidgen.config import BLOCKS, STAGES, UNTRACKED, load_params
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
# weights that code reads from beside itself
ASSETS = {
    "liquidgen/autoencoder_files.py": "liquidgen/assets/autoencoder",
    "liquidgen/features.py": "liquidgen/assets/features",
}
BLOCK_TYPES = "liquidgen/models/blocks"  # a registry: the selected file is imported by name


def stage_of(key: str) -> str | None:
    """The stage whose settings a key of params.yaml belongs to; None: nothing depends on it."""
    section, name = key.split(".")[:2]
    if section in UNTRACKED:
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
            return value[::-1]
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


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_depends_on_exactly_the_code_that_it_imports(stage: str):
    imported = closure(f"stages/{stage}.py")
    expected = imported | {
        str(path.relative_to(PROJECT))
        for code, folder in ASSETS.items()
        if code in imported
        for path in (PROJECT / folder).iterdir()
        if path.suffix != ".md"  # a better description is no other network
    }
    assert len(set(PIPELINE[stage]["deps"])) == len(PIPELINE[stage]["deps"])
    dependencies: set[str] = set()
    for entry in PIPELINE[stage]["deps"]:
        path = PROJECT / entry
        if entry.startswith("data/"):
            continue
        assert path.exists(), entry
        within = path.rglob("*.py") if path.is_dir() else [path]
        dependencies |= {str(file.relative_to(PROJECT)) for file in within}
    assert dependencies == expected


def closure(start: str) -> set[str]:
    """The project's files that a script imports, directly or not, also inside functions."""
    found: set[str] = set()
    waiting = {start, f"{start.split('/')[0]}/__init__.py"}
    while waiting:
        path = waiting.pop()
        found.add(path)
        if path == f"{BLOCK_TYPES}/__init__.py":
            waiting.add(f"{BLOCK_TYPES}/{RAW['block']}.py")
        for module in imports(path):
            waiting |= files_of(module) - found
    return found


def imports(path: str) -> Iterator[str]:
    """Full names of what a file imports; of `from a import b` also a.b, which may be a module."""
    package = path.removesuffix(".py").split("/")[:-1]
    for node in ast.walk(ast.parse((PROJECT / path).read_text())):
        match node:
            case ast.Import():
                yield from (alias.name for alias in node.names)
            case ast.ImportFrom():
                base = package[: len(package) - node.level + 1] if node.level else []
                module = ".".join([*base, *filter(None, [node.module])])
                yield module
                yield from (f"{module}.{alias.name}" for alias in node.names)


def files_of(module: str) -> set[str]:
    """The files that an import of a module runs: its own, and those of the packages around it."""
    parts = module.split(".")
    paths = {"/".join([*parts[: i + 1], "__init__.py"]) for i in range(len(parts))}
    paths |= {"/".join(parts) + ".py"}
    if parts[0] not in ("liquidgen", "stages"):
        return set()
    return {path for path in paths if (PROJECT / path).is_file()}


def test_nothing_is_out_of_date_after_a_run(pipeline: Checkout, monkeypatch: pytest.MonkeyPatch):
    assert out_of_date(pipeline, monkeypatch) == []


@pytest.mark.parametrize("key", TRACKED)
def test_a_key_reruns_the_stage_that_it_belongs_to(
    key: str, pipeline: Checkout, monkeypatch: pytest.MonkeyPatch
):
    value = another(value_of(pipeline.params, key))
    with pipeline.edited(changed(pipeline.params, {key: value})):
        assert out_of_date(pipeline, monkeypatch) == [stage_of(key)]


def test_keys_of_the_machine_and_of_blocks_that_are_not_selected_rerun_nothing(
    pipeline: Checkout, monkeypatch: pytest.MonkeyPatch
):
    assert {key.split(".")[0] for key in UNSELECTED} > set(UNTRACKED)
    others = {key: another(value_of(pipeline.params, key)) for key in UNSELECTED}
    with pipeline.edited(changed(pipeline.params, others)):
        assert out_of_date(pipeline, monkeypatch) == []


@pytest.mark.parametrize("selector", SWITCHED)
def test_a_selector_switches_all_stages_that_depend_on_it(
    selector: str, pipeline: Checkout, monkeypatch: pytest.MonkeyPatch
):
    params = pipeline.params
    other = another(params[selector])
    if group := BLOCKS.get(selector):
        params[group][other] = params[group][params[selector]]  # the same under another name
    with pipeline.edited(changed(params, {selector: other})):
        assert out_of_date(pipeline, monkeypatch) == SWITCHED[selector]


def test_a_second_run_runs_no_stage(checkout: Checkout):
    assert checkout.repro() == []


def test_a_sampling_setting_reruns_two_stages_and_the_earlier_scores_come_back(checkout: Checkout):
    scores = checkout.root / "metrics/evaluate.json"
    earlier = scores.read_bytes()
    guidance = checkout.params["sample"]["guidance_scale"]
    with checkout.edited(changed(checkout.params, {"sample.guidance_scale": guidance + 2})):
        assert checkout.repro() == ["sample", "evaluate"]
        assert scores.read_bytes() != earlier
    assert checkout.repro() == []
    assert scores.read_bytes() == earlier


def test_another_model_is_trained_and_the_first_one_comes_back(checkout: Checkout):
    models = checkout.root / "data/models"
    (first,) = models.iterdir()
    earlier = files(first)
    with checkout.edited(changed(checkout.params, {"model": "tiny"})):
        assert checkout.repro("train") == ["train"]
        assert len(list(models.iterdir())) == 2
    assert checkout.repro() == []
    assert files(first) == earlier


def test_data_made_again_have_the_same_bytes_and_rerun_nothing_after_them(checkout: Checkout):
    folders = [checkout.root / "data/raw", checkout.root / "data/latents"]
    earlier = [files(folder) for folder in folders]
    assert all(earlier)
    assert checkout.repro("--force", "encode") == ["download", "encode"]
    assert [files(folder) for folder in folders] == earlier
    assert checkout.repro() == []


def test_a_comment_in_the_mathematics_costs_no_training_step(checkout: Checkout):
    (model,) = (checkout.root / "data/models").iterdir()
    state = checkout.root / "work/train"
    earlier, checkpoints = files(model), sorted(state.rglob("step-*"))
    assert checkpoints
    with open(checkout.root / "liquidgen/learner.py", "a") as file:
        file.write("# a comment\n")
    assert checkout.repro() == ["train"]  # and no stage after it: the model has the same bytes
    assert files(model) == earlier
    assert sorted(state.rglob("step-*")) == checkpoints


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


def test_each_stage_is_recorded_once_and_ends_well(runs: dict[str, list[Run]]):
    assert {stage: len(found) for stage, found in runs.items()} == dict.fromkeys(STAGES, 1)
    assert {run.info.status for found in runs.values() for run in found} == {"FINISHED"}


def test_a_training_is_one_row_with_its_settings_losses_and_scores(
    pipeline: Checkout, runs: dict[str, list[Run]]
):
    (run,) = runs["train"]
    data = run.data
    assert data.params["train.batch_size"] == str(pipeline.params["train"]["batch_size"])
    assert data.params["dataset.num_images"] == "200"
    for name, scores in {
        "train": json.loads((pipeline.root / "metrics/train.json").read_bytes()),
        "evaluate": json.loads((pipeline.root / "metrics/evaluate.json").read_bytes()),
    }.items():
        scores.pop("protocol", None)
        assert scores
        recorded = {key: data.metrics[f"{name}/{key}"] for key in scores}
        assert recorded == pytest.approx(scores)
    assert data.tags["sample.num_steps"] == str(pipeline.params["sample"]["num_steps"])
    assert [entry.dataset.name for entry in run.inputs.dataset_inputs] == ["procedural-64-builtin"]


def test_sampling_and_evaluation_hang_below_the_training(runs: dict[str, list[Run]]):
    (parent,) = runs["train"]
    for stage in ("sample", "evaluate"):
        assert runs[stage][0].data.tags["mlflow.parentRunId"] == parent.info.run_id
        assert runs[stage][0].info.experiment_id == parent.info.experiment_id


def test_data_stages_are_recorded_apart(runs: dict[str, list[Run]]):
    experiments = {stage: runs[stage][0].info.experiment_id for stage in STAGES}
    assert experiments["download"] == experiments["encode"] != experiments["train"]
    assert runs["encode"][0].data.metrics == {"encode/train": 160, "encode/holdout": 40}
    assert runs["download"][0].data.params["download.split_seed"] == "0"


def test_pictures_are_shown_with_the_training(pipeline: Checkout, runs: dict[str, list[Run]]):
    (parent,) = runs["train"]
    images = Store(pipeline.root).client.list_artifacts(parent.info.run_id, "images")
    names = {re.match(r"\w+", Path(image.path).name)[0] for image in images}
    assert names == {"preview", "samples"}
