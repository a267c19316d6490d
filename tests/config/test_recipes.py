"""Recipes fit params.yaml, and are written into it without touching anything else."""

import json
from pathlib import Path

import pytest
from helpers.checkout import PROJECT, read_params
from ruamel.yaml import YAML

from liquidgen.cli import main
from liquidgen.config.params import load_params
from liquidgen.config.recipes import recipe, recipes, write_settings
from liquidgen.utils.errors import UserError

SHIPPED = (PROJECT / "params.yaml").read_text()
RECIPES = recipes()


@pytest.fixture
def params(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of params.yaml in the current folder."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_text(SHIPPED)
    return tmp_path / "params.yaml"


def comments(text: str) -> list[str]:
    return [line[line.index("#") :] for line in text.splitlines() if "#" in line]


@pytest.mark.parametrize("name", RECIPES)
def test_recipe_is_written_with_all_comments(params: Path, name: str):
    changed = write_settings(params, recipe(name).settings)
    assert load_params(params) == load_params(PROJECT / "params.yaml", recipe(name).settings)
    text = params.read_text()
    assert comments(text) == comments(SHIPPED)
    lines = zip(text.splitlines(), SHIPPED.splitlines(), strict=True)
    assert sum(new != old for new, old in lines) == len(changed)
    assert write_settings(params, recipe(name).settings) == {}


def test_recipes_replace_one_another(params: Path):
    """They set the same keys, and `demo` is what is shipped."""
    assert {tuple(one.settings) for one in RECIPES.values()} == {tuple(RECIPES["demo"].settings)}
    for name in [*RECIPES, "demo"]:
        write_settings(params, recipe(name).settings)
    assert read_params(params) == read_params(PROJECT / "params.yaml")


@pytest.mark.parametrize("ending", ["\n", "\r\n"])
def test_layouts_of_yaml_are_kept(params: Path, ending: str):
    lines = SHIPPED.replace("dataset: procedural ", 'dataset: "procedural" ').splitlines()
    at = lines.index("encode:")
    end = lines.index("", at)
    section = read_params(PROJECT / "params.yaml")["encode"] | {"flip": "false"}
    flow = ", ".join(f"{key}: {value}" for key, value in section.items())
    lines[at:end] = [f"encode: {{{flow}}}".replace("False", "false")]
    params.write_bytes(ending.join([*lines, ""]).encode())
    write_settings(params, recipe("own-images-64").settings)
    found = load_params(params)
    assert found.encode.flip is True
    assert found.selectors.dataset == "own_folder"
    assert params.read_bytes().count(b"\r\n") == (ending == "\r\n") * len(lines)


@pytest.mark.parametrize("flow", [None, False, "json"])
def test_file_that_a_program_has_written_is_changed(params: Path, flow: bool | str | None):
    """Such as by `dvc exp run -S`: several values in a line, and none with a comment."""
    raw = read_params(params)
    if flow == "json":
        params.write_text(json.dumps(raw))
    else:
        yaml = YAML(typ="safe")
        yaml.default_flow_style = flow
        yaml.dump(raw, params)
    write_settings(params, recipe("wikiart-512-large").settings)
    assert load_params(params) == load_params(
        PROJECT / "params.yaml", recipe("wikiart-512-large").settings
    )
    write_settings(params, recipe("demo").settings)
    assert read_params(params) == raw


def test_value_that_cannot_be_replaced_leaves_the_file(params: Path):
    params.write_text(SHIPPED.replace("\nimage_size: 64 ", "\nimage_size:\n  !!int 64 "))
    before = params.read_bytes()
    with pytest.raises(UserError, match=r"params.yaml: .*image_size.*: cannot be replaced"):
        write_settings(params, recipe("flowers-256").settings)
    assert params.read_bytes() == before


def test_use_prints_the_difference(params: Path, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit):
        main(["use", "colab-t4-paintings-256"])
    printed = capsys.readouterr().out.splitlines()
    assert "image_size: 64 -> 256" in printed
    assert "train.batch_size: null -> 32" in printed
    assert printed[-1].startswith("use: colab-t4-paintings-256 in params.yaml, 11 keys changed")
    assert load_params(params).run_name == "paintings-256-flux-small-liquid"


def test_use_names_own_images_that_are_missing(params: Path, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit):
        main(["use", "own-images-64"])
    last = capsys.readouterr().out.splitlines()[-1]
    assert "; before `dvc repro`: images: no such folder" in last
    assert last.endswith("set `path` of the dataset's block")


def test_use_accepts_own_images_that_are_there(params: Path, capsys: pytest.CaptureFixture[str]):
    (params.parent / "images").mkdir()
    with pytest.raises(SystemExit):
        main(["use", "own-images-64"])
    assert capsys.readouterr().out.endswith("; `dvc repro` runs it\n")


def test_use_without_name_lists_recipes(params: Path, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit):
        main(["use"])
    printed = capsys.readouterr().out
    assert all(
        f"{one.description}\n" in printed and name in printed for name, one in RECIPES.items()
    )
    assert params.read_text() == SHIPPED


@pytest.mark.parametrize(
    ("name", "rule"), [("dmo", "did you mean demo"), ("x", "there are demo, colab-t4-paintings")]
)
def test_unknown_recipe_is_one_line(params: Path, name: str, rule: str):
    with pytest.raises(SystemExit) as ended:
        main(["use", name])
    assert str(ended.value.code).startswith(f"error: recipe '{name}': not known; {rule}")
    assert "\n" not in str(ended.value.code)


def test_use_without_params_yaml_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match=r"error: params.yaml: no such file; run from the folder"):
        main(["use", "demo"])
