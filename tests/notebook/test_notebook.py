"""The Colab notebook runs from top to bottom with small settings."""

import ast
import os
import re
from pathlib import Path
from unittest.mock import Mock

import nbformat
import pytest
from helpers.checkout import PROJECT, read_params
from helpers.small_settings import SMALL
from nbclient import NotebookClient

import liquidgen
from liquidgen.config.params import BLOCKS
from liquidgen.config.recipes import recipes

NOTEBOOK = PROJECT / "notebooks/LiquidGen_Colab.ipynb"
RAW = read_params(PROJECT / "params.yaml")
PARAMETERS = """
image_size = 32
num_epochs = 2
batch_size = 16
guidance_scales = [1.0, 3.0]
settings = {settings}
"""
Notebook = nbformat.NotebookNode


@pytest.fixture(scope="module")
def notebook() -> Notebook:
    return nbformat.read(NOTEBOOK, 4)


def parameters(notebook: Notebook) -> int:
    """Index of the cell tagged `parameters`, after which papermill inserts other values."""
    tagged = [i for i, c in enumerate(notebook.cells) if "parameters" in c.metadata.get("tags", [])]
    assert len(tagged) == 1
    return tagged[0]


@pytest.fixture(scope="module")
def executed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Notebook, Path]:
    """The notebook with the outputs of a run, and the folder in which it ran."""
    folder = tmp_path_factory.mktemp("notebook")
    notebook = nbformat.read(NOTEBOOK, 4)
    for cell in notebook.cells:
        cell.pop("outputs", None)
        if cell.cell_type == "code":
            cell.outputs = []
    cell = nbformat.v4.new_code_cell(PARAMETERS.format(settings=SMALL))
    notebook.cells.insert(parameters(notebook) + 1, cell)
    variables = {"PYTHONPATH": str(PROJECT), "MLFLOW_TRACKING_URI": ""}
    client = NotebookClient(
        notebook,
        timeout=600,
        kernel_name="python3",
        resources={"metadata": {"path": str(folder)}},
    )
    with pytest.MonkeyPatch.context() as patch:
        for name, value in variables.items():
            patch.setenv(name, value)
        patch.delenv("MLFLOW_TRACKING_URI")
        client.execute(env=dict(os.environ))
    return notebook, folder


def outputs(notebook: Notebook, part: str, kind: str) -> list:
    """Outputs of one MIME type of the cell whose source contains `part`."""
    (cell,) = (c for c in notebook.cells if c.cell_type == "code" and part in c.source)
    return [one["data"][kind] for one in cell.outputs if kind in one.get("data", {})]


def test_run_leaves_model_and_card(executed: tuple[Notebook, Path]):
    notebook, folder = executed
    assert (folder / "data/models/procedural-32-builtin-nano-liquid/model.json").exists()
    assert (folder / "pipeline/README.md").read_text().startswith("---\n")
    (cell,) = (c for c in notebook.cells if "model = train(config" in c.source)
    printed = "".join(o.get("text", "") for o in cell.outputs if o.output_type == "stream")
    assert "train: 10 steps in" in printed


def test_training_shows_curve_and_newest_grid(executed: tuple[Notebook, Path]):
    shown = outputs(executed[0], "model = train(config", "image/png")
    assert len(shown) == 2  # each updated in place
    texts = outputs(executed[0], "model = train(config", "text/plain")
    assert not any("waiting for" in text for text in texts)


def test_samples_by_class_and_guidance_are_shown(executed: tuple[Notebook, Path]):
    (picture,) = outputs(executed[0], "guidance_scale=scale", "image/png")
    assert len(picture) > 1000


def test_runs_are_compared_in_table_and_plot(executed: tuple[Notebook, Path]):
    (table,) = outputs(executed[0], "search_runs", "text/html")
    for name in ("run", "model", "validation loss", "nano procedural"):
        assert name in table
    assert outputs(executed[0], "get_metric_history", "image/png")


def test_no_cell_warns_or_fails(executed: tuple[Notebook, Path]):
    for cell in executed[0].cells:
        for output in cell.get("outputs", []):
            assert output.output_type != "error"
            assert "Warning" not in output.get("text", ""), output.text


def test_interrupted_training_is_backed_up(notebook: Notebook, monkeypatch: pytest.MonkeyPatch):
    def interrupted(config: object, callbacks: list) -> None:
        assert backup in callbacks
        raise SystemExit("stopped at step 7")

    backup = Mock()
    monkeypatch.setattr(liquidgen, "train", interrupted)
    monkeypatch.setattr("liquidgen.notebook.live_view.LiveView", Mock)
    (cell,) = (c for c in notebook.cells if "model = train(config" in c.source)
    variables = {"backup": backup}
    exec(notebook.cells[parameters(notebook)].source, variables)
    with pytest.raises(SystemExit, match="step 7"):
        exec(cell.source, variables)
    backup.save.assert_called_once_with()


def test_stored_notebook_has_one_image_and_no_counts(notebook: Notebook):
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    stored = [output for cell in code for output in cell.outputs]
    assert [sorted(output.data) for output in stored] == [["image/png", "text/plain"]]
    assert all(cell.execution_count is None for cell in code)
    assert NOTEBOOK.stat().st_size < 300_000


def test_form_has_recipes_and_presets(notebook: Notebook):
    """A form may lack presets: other names can be typed. What is left out is as the recipe says."""
    source = notebook.cells[parameters(notebook)].source
    values = dict(re.findall(r"^(\w+) = ([^#\n]+?) +#", source, re.MULTILINE))
    values = {name: ast.literal_eval(value) for name, value in values.items()}
    choices = dict(re.findall(r"^(\w+) = .*# @param (\[.*?\])", source, re.MULTILINE))
    choices = {name: ast.literal_eval(one) for name, one in choices.items()}
    assert choices["recipe"] == list(recipes())
    assert values["recipe"] == choices["recipe"][0]
    for name in ("image_size", "batch_size", "num_epochs", "learning_rate"):
        assert values[name] is None
    keys = {"dataset_preset": "dataset", "autoencoder": "autoencoder", "model_size": "model"}
    for name, key in keys.items():
        assert values[name] == choices[name][0] == ""
        assert set(choices[name][1:]) <= RAW[BLOCKS[key]].keys(), name
        assert re.search(rf"^{name} = .*{{allow-input: true}}$", source, re.MULTILINE), name
