"""params.yaml and its reader: every key is explained, checked, and refused by its full path."""

import copy
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from dvc.utils.hydra import apply_overrides
from helpers.checkout import PROJECT, changed, leaves, read_params
from pydantic import ValidationError
from ruamel.yaml import YAML

from liquidgen.config.params import BLOCKS, STAGES, UNTRACKED, Params, load_params
from liquidgen.config.paths import own_path, project_root
from liquidgen.config.settings import Selectors
from liquidgen.models.liquidnet import LiquidNet
from liquidgen.utils.errors import UserError

PARAMS_YAML = PROJECT / "params.yaml"
SELECTORS = tuple(Selectors.model_fields)


RAW = read_params(PARAMS_YAML)
KEYS = tuple(leaves(RAW))


def load(params: dict[str, Any], folder: Path) -> Params:
    """Read settings as the stages do, the block's own ones included."""
    with open(folder / "params.yaml", "w") as file:
        YAML(typ="safe").dump(params, file)
    loaded = load_params(folder / "params.yaml")
    for name, settings in params["blocks"].items():
        small = {"width": 16, "depth": 2, "cond_dim": 16, "patch_size": 1}
        shape = {"in_channels": 4, "sample_size": 4, "num_classes": 2}
        LiquidNet(**shape, **small, block=name, block_settings=settings)
    return loaded


def refusal(params: dict[str, Any], folder: Path) -> str:
    with pytest.raises(UserError) as refused:
        load(params, folder)
    message = str(refused.value)
    assert "\n" not in message
    return message


def renamed(key: str, name: str | None) -> dict[str, Any]:
    """params.yaml with the last part of a key's path renamed, or without the key."""
    params = copy.deepcopy(RAW)
    *path, last = key.split(".")
    section = params
    for part in path:
        section = section[part]
    value = section.pop(last)
    if name:
        section[name] = value
    return params


def comments(section: str) -> dict[str, str]:
    """Key -> the comment on its line, or on the line above, of a section or of a group."""
    text = PARAMS_YAML.read_text()
    body = re.search(rf"^{section}:\n((?: .*\n|\n)+)", text, re.MULTILINE)[1]
    found: dict[str, str] = {}
    for line in re.finditer(r"^ +([a-z_]+):[^#\n]*(?:# *(.*))?$", body, re.MULTILINE):
        found[line[1]] = found.get(line[1]) or line[2] or ""
    return found


def test_the_projects_own_settings_load():
    params = load_params(PARAMS_YAML)
    assert params.run_name == "-".join(str(RAW[selector]) for selector in SELECTORS)
    assert params.train.learning_rate == RAW["train"]["learning_rate"]


def test_every_key_of_the_file_is_known_by_its_section():
    sections = set(STAGES) | set(UNTRACKED) | set(BLOCKS.values()) | set(SELECTORS)
    assert set(RAW) == sections


@pytest.mark.parametrize("section", [*STAGES, *UNTRACKED])
def test_every_key_has_a_comment_of_its_meaning(section: str):
    silent = [key for key, comment in comments(section).items() if len(comment) < 5]
    assert not silent
    named = {key.split(".")[-1] for key in KEYS if key.startswith(f"{section}.")}
    assert named <= set(comments(section))


@pytest.mark.parametrize("selector", SELECTORS)
def test_every_selector_has_a_comment_of_its_meaning(selector: str):
    assert re.search(rf"^{selector}: \w+ +# .{{5,}}$", PARAMS_YAML.read_text(), re.MULTILINE)


@pytest.mark.parametrize("key", KEYS)
def test_a_missing_key_is_named_by_its_full_path(key: str, tmp_path: Path):
    assert refusal(renamed(key, None), tmp_path).startswith(f"{key}: missing key")


@pytest.mark.parametrize("key", KEYS)
def test_a_misspelt_key_is_refused_with_the_right_one(key: str, tmp_path: Path):
    *path, last = key.split(".")
    misspelt = ".".join([*path, last[:1] + last[2:]])  # `train.lerning_rate`
    message = refusal(renamed(key, misspelt.split(".")[-1]), tmp_path)
    assert message.startswith(f"{misspelt}: unknown key")
    assert message.endswith(f"did you mean {key}?")


@pytest.mark.parametrize("key", KEYS)
def test_a_value_of_another_type_is_refused_by_the_full_path(key: str, tmp_path: Path):
    message = refusal(changed(RAW, {key: {"no": "value"}}), tmp_path)
    assert message.startswith(f"{key}: ")
    assert message.endswith("it is {'no': 'value'}")


@pytest.mark.parametrize("value", [float("inf"), float("nan"), "6e-3", True, None, 0, -1.0])
def test_a_learning_rate_must_be_a_finite_positive_number(value: object, tmp_path: Path):
    message = refusal(changed(RAW, {"train.learning_rate": value}), tmp_path)
    assert message.startswith("train.learning_rate: ")
    assert repr(value) in message


@pytest.mark.parametrize("value", ["gpu", "cuda:", "cuda:one", ""])
def test_an_unknown_device_is_refused_with_those_that_there_are(value: str, tmp_path: Path):
    message = refusal(changed(RAW, {"machine.device": value}), tmp_path)
    assert message == f"machine.device: must be auto, cpu, cuda or cuda:1; it is {value!r}"


@pytest.mark.parametrize("section", [*STAGES, *UNTRACKED, *BLOCKS.values()])
def test_a_section_that_is_missing_empty_or_misspelt_is_named(section: str, tmp_path: Path):
    assert refusal(changed(RAW, {section: None}), tmp_path).startswith(f"{section}: ")
    misspelt = section[:1] + section[2:]
    message = refusal_of_file(renamed(section, misspelt), tmp_path)
    assert message.startswith(f"{misspelt}: unknown key")
    assert message.endswith(f"did you mean {section}?")
    assert refusal_of_file(renamed(section, None), tmp_path).startswith(f"{section}: missing key")


def refusal_of_file(params: dict[str, Any], folder: Path) -> str:
    with open(folder / "params.yaml", "w") as file:
        YAML(typ="safe").dump(params, file)
    with pytest.raises(UserError) as refused:
        load_params(folder / "params.yaml")
    return str(refused.value)


@pytest.mark.parametrize(("selector", "group"), BLOCKS.items())
def test_a_selector_must_name_a_block(selector: str, group: str, tmp_path: Path):
    misspelt = RAW[selector] + "x"
    message = refusal(changed(RAW, {selector: misspelt}), tmp_path)
    assert message == (
        f"{selector}: no block '{misspelt}' in {group}; did you mean {RAW[selector]}?"
    )


@pytest.mark.parametrize("group", BLOCKS.values())
def test_a_block_whose_name_is_a_number_is_refused(group: str, tmp_path: Path):
    params = copy.deepcopy(RAW)
    params[group][2024] = next(iter(params[group].values()))
    with pytest.raises(UserError, match=f"^{group}.2024: a block's name must be text; put it in"):
        load(params, tmp_path)


@pytest.mark.parametrize("kind", ["parket", ["parquet"], None, 3])
def test_a_dataset_of_an_unknown_kind_is_refused_beside_the_known_ones(kind: Any, tmp_path: Path):
    message = refusal(changed(RAW, {"datasets.own_folder.kind": kind}), tmp_path)
    assert message.startswith("datasets.own_folder.kind: must be one of procedural, folder")


def test_one_wrong_number_of_several_is_refused(tmp_path: Path):
    message = refusal(changed(RAW, {"train.betas": [0.9, 1.5]}), tmp_path)
    assert message.startswith("train.betas: ")
    assert message.endswith("it is 1.5")


def test_numbers_are_read_as_dvc_reads_them(tmp_path: Path):
    text = re.sub(r"learning_rate: \S+", "learning_rate: 1e-4", PARAMS_YAML.read_text())
    (tmp_path / "params.yaml").write_text(text)
    assert load_params(tmp_path / "params.yaml").train.learning_rate == 1e-4


@pytest.mark.parametrize(
    ("content", "rule"),
    [
        (b"train: [1\n", "line 2: not valid YAML"),
        (b"train: 1\ntrain: 2\n", "line 2: not valid YAML: found duplicate key"),
        (b"train: \xff\xfe\n", "not valid YAML"),
        (b"", "must be a mapping"),
        (b"- 1\n", "must be a mapping"),
        (b"1: 2\n", "1: unknown key"),
    ],
)
def test_a_file_that_is_no_mapping_is_refused_in_one_line(
    content: bytes, rule: str, tmp_path: Path
):
    (tmp_path / "params.yaml").write_bytes(content)
    with pytest.raises(UserError, match=rule) as refused:
        load_params(tmp_path / "params.yaml")
    assert "\n" not in str(refused.value)


def test_a_missing_file_is_refused(tmp_path: Path):
    with pytest.raises(UserError, match="no such file; run from the folder that has it"):
        load_params(tmp_path / "params.yaml")


def test_runs_are_recorded_with_every_selected_setting_and_no_other():
    flat = load_params(PARAMS_YAML).flat()
    expected = {selector: RAW[selector] for selector in SELECTORS}
    for selector, group in BLOCKS.items():
        for key, value in RAW[group][RAW[selector]].items():
            expected[f"{selector}.{key}"] = value
    for stage in STAGES:
        expected |= {f"{stage}.{key}": value for key, value in RAW[stage].items()}
    assert flat == expected


def test_a_stage_may_be_recorded_with_its_own_settings_alone():
    flat = load_params(PARAMS_YAML).flat("dataset", "encode")
    sections = {key.split(".")[0] for key in flat if "." in key}
    assert sections == {"dataset", "encode"}
    assert set(SELECTORS) <= set(flat)


@pytest.mark.parametrize("section", [*STAGES, *UNTRACKED, "dataset", "model", "autoencoder"])
def test_settings_never_change(section: str):
    settings = getattr(load_params(PARAMS_YAML), section)
    name = next(iter(type(settings).model_fields))
    with pytest.raises(ValidationError, match="frozen"):
        setattr(settings, name, getattr(settings, name))


def test_a_temporary_workspace_of_dvc_belongs_to_the_real_checkout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    workspace = tmp_path / ".dvc/tmp/exps/tmpabc"
    workspace.mkdir(parents=True)
    monkeypatch.chdir(workspace)
    assert project_root() == tmp_path


def test_paths_of_the_settings_are_relative_to_the_real_checkout_or_to_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    workspace = tmp_path / ".dvc/tmp/exps/tmpabc"
    workspace.mkdir(parents=True)
    monkeypatch.chdir(workspace)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert own_path("images") == tmp_path / "images"
    assert own_path("~/images") == tmp_path / "home/images"
    assert own_path("/images") == Path("/images")


@pytest.mark.parametrize("kind", ["own_folder", "emoji"])
@pytest.mark.parametrize("path", ["data", "data/raw/mine", "images/../data", "{root}/data/own"])
def test_own_data_below_data_are_refused_where_selected(
    kind: str, path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    path = path.format(root=tmp_path)
    params = changed(RAW, {f"datasets.{kind}.path": path})
    load(params, tmp_path)
    message = refusal(changed(params, {"dataset": kind}), tmp_path)
    assert message.startswith(f"datasets.{kind}.path: {path} is inside data/")
    load(changed(params, {"dataset": kind, f"datasets.{kind}.path": "database"}), tmp_path)


@pytest.mark.parametrize("key", KEYS)
def test_a_key_can_be_changed_by_its_full_path_and_a_misspelt_one_is_refused(key: str):
    value = RAW
    for name in key.split("."):
        value = value[name]
    assert load_params(PARAMS_YAML, {key: value}) == load_params(PARAMS_YAML)
    *path, last = key.split(".")
    with pytest.raises(UserError, match=r"unknown key; did you mean \w"):
        load_params(PARAMS_YAML, {".".join([*path, last + "x"]): value})


def test_a_change_may_add_a_block_but_no_section_and_no_key():
    block = RAW["models"]["nano"] | {"width": 64}
    added = load_params(PARAMS_YAML, {"models.own": block, "model": "own"})
    assert added.model.width == 64
    for key in ("own", "own.block", "train.own", "models.nano.own", "models.own.block.deep"):
        with pytest.raises(UserError, match=rf"^{key}: unknown key"):
            load_params(PARAMS_YAML, {key: block})


def test_dvc_can_rewrite_the_file_again_and_again(tmp_path):
    """As `dvc exp run -S` does: it keeps comments, and loses none of the values."""
    path = Path(shutil.copy(PROJECT / "params.yaml", tmp_path))
    before = load_params(path).raw
    for seed in (5, 6):
        apply_overrides(path, [f"train.seed={seed}"])
        assert load_params(path).raw == before | {"train": before["train"] | {"seed": seed}}
