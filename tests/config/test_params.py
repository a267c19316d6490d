"""params.yaml and its reader: every key has a comment, is validated, and named in full."""

import copy
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from dvc.utils.hydra import apply_overrides
from helpers.checkout import PROJECT, changed, leaves, read_params
from pydantic import ValidationError
from ruamel.yaml import YAML

from liquidgen.config.params import (
    BLOCKS,
    STAGES,
    UNTRACKED,
    Params,
    load_choices,
    load_params,
)
from liquidgen.config.paths import own_path, project_root
from liquidgen.config.settings import PRESET_TRAINING, Selectors
from liquidgen.flow.schedulers import SOLVERS
from liquidgen.flow.time_sampling import TIME_SAMPLINGS
from liquidgen.models.liquidnet import LiquidNet
from liquidgen.utils.errors import UserError

PARAMS_YAML = PROJECT / "params.yaml"
SELECTORS = tuple(Selectors.model_fields)
RAW = read_params(PARAMS_YAML)
KEYS = tuple(leaves(RAW))
REQUIRED = tuple(key for key in KEYS if not key.startswith("descriptions."))
REGISTRIES = {
    "train.time_sampling": TIME_SAMPLINGS,
    "sample.solver": SOLVERS,
}


def load(params: dict[str, Any], folder: Path) -> Params:
    """Read settings as the stages do, the block's own ones included."""
    with open(folder / "params.yaml", "w") as file:
        YAML(typ="safe").dump(params, file)
    loaded = load_params(folder / "params.yaml")
    for name, settings in params["blocks"].items():
        small = {"width": 32, "depth": 2, "cond_dim": 16, "patch_size": 1}
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


def test_shipped_settings_load():
    params = load_params(PARAMS_YAML)
    assert params.run_name == "-".join(str(RAW[selector]) for selector in SELECTORS)
    assert params.train.learning_rate == RAW["models"][RAW["model"]]["learning_rate"]


def test_sections_of_the_file_are_those_of_the_models():
    sections = set(STAGES) | set(UNTRACKED) | set(BLOCKS.values()) | set(SELECTORS)
    assert set(RAW) == sections | {"descriptions"}
    assert set(BLOCKS.values()) == set(RAW["descriptions"])
    assert set(BLOCKS) == set(SELECTORS) - {"image_size"}


@pytest.mark.parametrize("section", [*STAGES, *UNTRACKED])
def test_keys_of_sections_have_comments(section: str):
    silent = [key for key, comment in comments(section).items() if len(comment) < 5]
    assert not silent
    named = {key.split(".")[-1] for key in KEYS if key.startswith(f"{section}.")}
    assert named <= set(comments(section))


@pytest.mark.parametrize("selector", SELECTORS)
def test_selectors_have_comments(selector: str):
    assert re.search(rf"^{selector}: \w+ +# .{{5,}}$", PARAMS_YAML.read_text(), re.MULTILINE)


@pytest.mark.parametrize("key", REQUIRED)
def test_missing_key_is_named(key: str, tmp_path: Path):
    assert refusal(renamed(key, None), tmp_path).startswith(f"{key}: missing key")


@pytest.mark.parametrize("key", KEYS)
def test_misspelt_key_is_refused_with_the_right_one(key: str, tmp_path: Path):
    *path, last = key.split(".")
    misspelt = ".".join([*path, last[:1] + last[2:]])  # `train.lerning_rate`
    message = refusal(renamed(key, misspelt.split(".")[-1]), tmp_path)
    assert message.startswith(f"{misspelt}: unknown key")
    assert message.endswith(f"did you mean {key}?")


@pytest.mark.parametrize("key", KEYS)
def test_value_of_another_type_is_refused(key: str, tmp_path: Path):
    message = refusal(changed(RAW, {key: {"no": "value"}}), tmp_path)
    assert message.startswith(f"{key}: ")
    assert message.endswith("it is {'no': 'value'}")


@pytest.mark.parametrize("value", [float("inf"), float("nan"), "6e-3", True, 0, -1.0])
def test_learning_rate_must_be_finite_and_positive(value: object, tmp_path: Path):
    message = refusal(changed(RAW, {"train.learning_rate": value}), tmp_path)
    assert message.startswith("train.learning_rate: ")
    assert repr(value) in message


@pytest.mark.parametrize("value", ["gpu", "cuda:", "cuda:one", ""])
def test_unknown_device_is_refused_with_the_known_ones(value: str, tmp_path: Path):
    message = refusal(changed(RAW, {"machine.device": value}), tmp_path)
    assert message == f"machine.device: must be auto, cpu, cuda or cuda:1; it is {value!r}"


@pytest.mark.parametrize("section", [*STAGES, *UNTRACKED, *BLOCKS.values(), "descriptions"])
def test_missing_empty_or_misspelt_section_is_named(section: str, tmp_path: Path):
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
def test_selector_must_name_a_block(selector: str, group: str, tmp_path: Path):
    misspelt = RAW[selector] + "x"
    message = refusal(changed(RAW, {selector: misspelt}), tmp_path)
    assert message == (
        f"{selector}: no block '{misspelt}' in {group}; did you mean {RAW[selector]}?"
    )


@pytest.mark.parametrize("group", BLOCKS.values())
def test_block_named_by_a_number_is_refused(group: str, tmp_path: Path):
    params = copy.deepcopy(RAW)
    params[group][2024] = next(iter(params[group].values()))
    with pytest.raises(UserError, match=f"^{group}.2024: a block's name must be text; put it in"):
        load(params, tmp_path)


@pytest.mark.parametrize("name", ["my-pics", 2024, "a b", "", "x" * 49, "../x", None, "b\u00e4r"])
def test_name_of_a_selector_has_a_rule(name: Any, tmp_path: Path):
    message = refusal(changed(RAW, {"dataset": name}), tmp_path)
    assert message == (
        "dataset: must be a name of at most 48 letters, digits and _, in quotes if it is a number; "
        f"it is {name!r}"
    )


@pytest.mark.parametrize("classes", [["a", "a"], ["a|b", "b"], []])
def test_classes_are_distinct(classes: list[str], tmp_path: Path):
    message = refusal(changed(RAW, {"datasets.own_parquet.classes": classes}), tmp_path)
    assert message.startswith("datasets.own_parquet.classes: ")


@pytest.mark.parametrize("limit", [0, 2001])
def test_size_of_an_image_is_within_limits(limit: int, tmp_path: Path):
    message = refusal(changed(RAW, {"download.max_image_mb": limit}), tmp_path)
    assert message.startswith("download.max_image_mb: input should be ")


@pytest.mark.parametrize("kind", ["parket", ["parquet"], None, 3])
def test_unknown_kind_of_dataset_is_refused(kind: Any, tmp_path: Path):
    message = refusal(changed(RAW, {"datasets.own_folder.kind": kind}), tmp_path)
    assert message.startswith("datasets.own_folder.kind: must be one of procedural, folder")


@pytest.mark.parametrize("group", BLOCKS.values())
def test_selector_of_an_empty_group_is_refused(group: str, tmp_path: Path):
    empty = {group: {}, f"descriptions.{group}": {}}
    message = refusal(changed(RAW, empty), tmp_path)
    assert message.endswith(f" in {group}; add one")


@pytest.mark.parametrize("key", REGISTRIES)
def test_added_name_of_a_registry_is_accepted(key: str, monkeypatch: pytest.MonkeyPatch):
    """Adding a function to a registry needs no edit of the settings."""
    wrong = {key: "own"}
    with pytest.raises(UserError) as refused:
        load_params(PARAMS_YAML, wrong)
    names = ", ".join(REGISTRIES[key])
    assert str(refused.value) == f"{key}: must be one of {names}; it is 'own'"
    monkeypatch.setitem(REGISTRIES[key], "own", Any)
    assert load_params(PARAMS_YAML, wrong)


def test_registries_load_without_torch():
    code = "import sys, liquidgen.config.params; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"torch", "diffusers", "numpy"} & set(done.stdout.split())


@pytest.mark.parametrize("group", BLOCKS.values())
def test_every_block_has_a_description(group: str):
    assert list(RAW["descriptions"][group]) == list(RAW[group])
    assert all("\n" not in text for text in RAW["descriptions"][group].values())


def test_description_may_be_missing(tmp_path: Path):
    load(renamed("descriptions.models.nano", None), tmp_path)


def test_description_of_an_unknown_block_is_refused(tmp_path: Path):
    message = refusal(renamed("models.tiny", None), tmp_path)
    assert message == "descriptions.models.tiny: unknown key; remove it"


def test_choices_are_readable_beside_mistakes(tmp_path: Path):
    broken = renamed("model", "modle") | {"dataset": 3, "train": None}
    with open(tmp_path / "params.yaml", "w") as file:
        YAML(typ="safe").dump(broken, file)
    choices = load_choices(tmp_path / "params.yaml")
    assert {selector: choice.selected for selector, choice in choices.items()} == {
        "dataset": 3,
        "autoencoder": RAW["autoencoder"],
        "model": None,
        "block": RAW["block"],
    }
    for selector, choice in choices.items():
        assert set(choice.blocks) == set(RAW[BLOCKS[selector]])
        assert choice.descriptions == RAW["descriptions"][BLOCKS[selector]]


def test_wrong_number_in_a_list_is_refused(tmp_path: Path):
    message = refusal(changed(RAW, {"train.betas": [0.9, 1.5]}), tmp_path)
    assert message.startswith("train.betas: ")
    assert message.endswith("it is 1.5")


def test_numbers_are_read_as_dvc_reads_them(tmp_path: Path):
    text = re.sub("learning_rate: null", "learning_rate: 1e-4", PARAMS_YAML.read_text())
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
def test_file_that_is_no_mapping_is_refused_in_one_line(content: bytes, rule: str, tmp_path: Path):
    (tmp_path / "params.yaml").write_bytes(content)
    with pytest.raises(UserError, match=rule) as refused:
        load_params(tmp_path / "params.yaml")
    assert "\n" not in str(refused.value)


def test_missing_file_is_refused(tmp_path: Path):
    with pytest.raises(UserError, match="no such file; run from the folder that has it"):
        load_params(tmp_path / "params.yaml")


def test_flat_has_every_selected_setting_and_no_other():
    flat = load_params(PARAMS_YAML).flat()
    expected = {selector: RAW[selector] for selector in SELECTORS}
    for selector, group in BLOCKS.items():
        for key, value in RAW[group][RAW[selector]].items():
            expected[f"{selector}.{key}"] = value
    for stage in STAGES:
        expected |= {f"{stage}.{key}": value for key, value in RAW[stage].items()}
    for key in PRESET_TRAINING:  # where `train` says null
        expected[f"train.{key}"] = expected.pop(f"model.{key}")
    assert flat == expected


def test_flat_of_named_sections_has_no_others():
    flat = load_params(PARAMS_YAML).flat("dataset", "encode")
    sections = {key.split(".")[0] for key in flat if "." in key}
    assert sections == {"dataset", "encode"}
    assert set(SELECTORS) <= set(flat)


@pytest.mark.parametrize("section", [*STAGES, *UNTRACKED, "dataset", "model", "autoencoder"])
def test_settings_are_frozen(section: str):
    settings = getattr(load_params(PARAMS_YAML), section)
    name = next(iter(type(settings).model_fields))
    with pytest.raises(ValidationError, match="frozen"):
        setattr(settings, name, getattr(settings, name))


def test_project_root_of_a_dvc_workspace_is_the_checkout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    workspace = tmp_path / ".dvc/tmp/exps/tmpabc"
    workspace.mkdir(parents=True)
    monkeypatch.chdir(workspace)
    assert project_root() == tmp_path


def test_own_path_is_relative_to_the_checkout_or_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    workspace = tmp_path / ".dvc/tmp/exps/tmpabc"
    workspace.mkdir(parents=True)
    monkeypatch.chdir(workspace)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert own_path("images") == tmp_path / "images"
    assert own_path("~/images") == tmp_path / "home/images"
    assert own_path("/images") == Path("/images")


@pytest.mark.parametrize("name", ["own_folder", "own_parquet"])
@pytest.mark.parametrize("path", ["data", "data/raw/mine", "images/../data", "{root}/data/own"])
def test_own_data_inside_data_is_refused_if_selected(
    name: str, path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    path = path.format(root=tmp_path)
    params = changed(RAW, {f"datasets.{name}.path": path})
    load(params, tmp_path)
    message = refusal(changed(params, {"dataset": name}), tmp_path)
    assert message.startswith(f"datasets.{name}.path: {path} is inside data/")
    load(changed(params, {"dataset": name, f"datasets.{name}.path": "database"}), tmp_path)


@pytest.mark.parametrize("key", KEYS)
def test_changes_name_keys_by_full_path(key: str):
    value = RAW
    for name in key.split("."):
        value = value[name]
    assert load_params(PARAMS_YAML, {key: value}) == load_params(PARAMS_YAML)
    *path, last = key.split(".")
    with pytest.raises(UserError, match=r"unknown key; did you mean \w"):
        load_params(PARAMS_YAML, {".".join([*path, last + "x"]): value})


def test_one_level_is_a_number_or_a_list_of_one():
    block = RAW["models"]["nano"]
    numbers = load_params(PARAMS_YAML, {"models.nano": block | {"width": 64, "depth": 2}}).model
    lists = load_params(PARAMS_YAML, {"models.nano": block | {"width": [64], "depth": [2]}}).model
    assert numbers == lists
    assert numbers.model_dump().items() >= {"width": 64, "depth": 2}.items()


def test_model_brings_what_suits_its_training():
    suited = {"optimizer": "adamw", "learning_rate": 1e-4, "ema_decay": 0.9999, "batch_size": 16}
    changes = {f"models.tiny.{key}": value for key, value in suited.items()} | {"model": "tiny"}
    params = load_params(PARAMS_YAML, changes)
    assert params.train.model_dump().items() >= suited.items()
    assert params.flat()["train.learning_rate"] == 1e-4  # what a run records
    assert not suited.keys() & params.model.model_dump().keys()
    params = load_params(PARAMS_YAML, changes | {"train.learning_rate": 3e-4})
    assert params.train.learning_rate == 3e-4
    assert params.train.ema_decay == 0.9999
    number = {f"train.{key}": value for key, value in suited.items()}
    assert load_params(PARAMS_YAML, changes).train == load_params(PARAMS_YAML, number).train


@pytest.mark.parametrize("key", ["num_epochs", "warmup_steps"])
def test_other_settings_cannot_be_null(key):
    with pytest.raises(UserError, match=rf"^train\.{key}: .*integer"):
        load_params(PARAMS_YAML, {f"train.{key}": None})


@pytest.mark.parametrize(
    ("width", "depth", "message"),
    [
        (
            [64, 128],
            [2],
            r"nano\.depth: must have as many numbers as width, 2: one per level; it is",
        ),
        ([], [], r"models\.nano\.width: .*at least 1"),
        ([64, 0], [2, 2], r"models\.nano\.width: .*greater than or equal to 1"),
        ([64, 40], [2, 2], r"models\.nano\.width: .*multiple of 16"),
        (64.0, 2, r"models\.nano\.width: must be a number, or a list with one number per level"),
        (None, 2, r"models\.nano\.width: must be a number, or a list"),
        ([64, 64], [2, 3], r"models\.nano\.depth: .*multiple of 2"),
        ("64", 2, r"models\.nano\.width: must be a number, or a list"),
    ],
)
def test_levels_need_numbers_that_fit(width, depth, message):
    block = RAW["models"]["nano"] | {"width": width, "depth": depth}
    with pytest.raises(UserError, match=message):
        load_params(PARAMS_YAML, {"models.nano": block})


def test_changes_may_add_a_block_but_no_other_key():
    block = RAW["models"]["nano"] | {"width": 64, "depth": 2}
    added = load_params(PARAMS_YAML, {"models.own": block, "model": "own"})
    assert added.model.width == [64]
    for key in ("own", "own.block", "train.own", "models.nano.own", "models.own.block.deep"):
        with pytest.raises(UserError, match=rf"^{key}: unknown key"):
            load_params(PARAMS_YAML, {key: block})


def test_dvc_rewrites_the_file_without_loss(tmp_path):
    """As `dvc exp run -S` does: it keeps comments, and loses none of the values."""
    path = Path(shutil.copy(PROJECT / "params.yaml", tmp_path))
    before = load_params(path).raw
    for seed in (5, 6):
        apply_overrides(path, [f"train.seed={seed}"])
        assert load_params(path).raw == before | {"train": before["train"] | {"seed": seed}}


NESTED = "a: &a [*a]\n"
BOMB = "".join(f"k{i}: &k{i} [{', '.join([f'*k{i - 1}'] * 9)}]\n" for i in range(1, 30))
HOSTILE = {
    "brackets": ("a: " + "[" * 900, "nested in more than 50 levels"),
    "more brackets": ("a: " + "[" * 500_000, "nested in more than 50 levels"),
    "braces": ("a: " + "{a: " * 900, "nested in more than 50 levels"),
    "dashes": ("a:\n  " + "- " * 2000, "nested in more than 50 levels"),
    "indentation": ("".join(" " * i + "a:\n" for i in range(900)), "nested in more than 50"),
    "itself": (NESTED, "nested in more than 50 levels"),
    "aliases": ("k0: &k0 [x]\n" + BOMB, "unknown key"),
    "digits": ("image_size: " + "9" * 5000, "not valid: Exceeds the limit"),
    "NUL in a path": ('datasets: {mine: {path: "\\0"}}', "datasets.mine.path: holds the char"),
    "NUL in a list": ('a: [1, "b\\0c"]', "a.1: holds the character NUL"),
    "escape codes": ('"a\\e[2J\\u202e": 1', r"a\\x1b\[2J\\u202e: unknown key"),
    "line break": ('"a\\nerror: all is well": 1', r"a\\nerror: all is well: unknown key"),
    "long key": (f"? {'k' * 100_000}\n: 1", "k: unknown key"),
    "long file": ("# " + "x" * 5_000_000, r"5\.0 MB, but settings are at most 1 MB"),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_file_is_one_line_and_quick(kind: str, tmp_path: Path):
    content, rule = HOSTILE[kind]
    (tmp_path / "params.yaml").write_text(content + "\n")
    started = time.process_time()
    with pytest.raises(UserError, match=rule) as refused:
        load_params(tmp_path / "params.yaml")
    assert str(refused.value).isprintable()
    assert time.process_time() - started < 5


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("dataset", "x" * 300),
        ("image_size", 2**40),
        ("image_size", f"64x{2**40}"),
        ("image_size", "64x16400"),
        ("machine.num_workers", 10**9),
        ("machine.num_processes", 10**9),
    ],
)
def test_value_beyond_all_reason_is_refused(key: str, value: object, tmp_path: Path):
    assert refusal(changed(RAW, {key: value}), tmp_path).startswith(f"{key}: ")


@pytest.mark.parametrize(
    "value",
    [
        True,
        64.0,
        "64",
        "64 x 96",
        "64x",
        "x",
        "64x96x3",
        "064x96",
        "\u0666\u0664x96",
        [64, 96],
        None,
    ],
)
def test_image_size_is_a_number_or_height_and_width(value: object, tmp_path: Path):
    rule = "image_size: must be a number of px, or HEIGHTxWIDTH, such as 64x96"
    assert refusal(changed(RAW, {"image_size": value}), tmp_path).startswith(rule)


def test_image_size_has_one_spelling(tmp_path: Path):
    """DVC puts it into the names of folders as it stands in params.yaml."""
    equal = refusal(changed(RAW, {"image_size": "64x64"}), tmp_path)
    assert equal.startswith("image_size: write a square as 64")
    oblong = load_params(PROJECT / "params.yaml", {"image_size": "64x96"})
    assert oblong.run_name == "procedural-64x96-builtin-nano-liquid"


@pytest.mark.parametrize(
    ("key", "right"),
    [
        ("train.lr", "train.learning_rate"),
        ("train.lerning_rate", "train.learning_rate"),
        ("train.bs", "train.batch_size"),
        ("trainn.learning_rate", "train"),
        ("sample.num_steps", "sample.num_inference_steps"),
        ("models.nanoo.width", "models.nano"),
        ("models.nano.widthh", "models.nano.width"),
        ("modle", "model"),
    ],
)
def test_unknown_change_names_nearest_key_of_its_section(key: str, right: str):
    with pytest.raises(UserError) as refused:
        load_params(PARAMS_YAML, {key: 1})
    assert str(refused.value) == f"{key}: unknown key; did you mean {right}?"


def test_long_value_is_cut_in_the_message(tmp_path: Path):
    message = refusal(changed(RAW, {"train": "v" * 500_000}), tmp_path)
    assert message.startswith("train: must be a section with keys, but it is 'vvv")
    assert len(message) < 400
