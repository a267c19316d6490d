"""Runs as MLflow has them: which one a name means, and what is read of it."""

import io
from pathlib import Path

import pytest
from helpers.runs import EXPERIMENT, HOSTILE, PROTOCOL, grid, png, settings
from PIL import Image, ImageChops

from liquidgen.report.facts import differences
from liquidgen.report.recorded import RecordedRuns
from liquidgen.report.workspace import workspace_run
from liquidgen.utils.errors import UserError


@pytest.fixture
def runs(workspace: Path) -> RecordedRuns:
    return RecordedRuns(workspace, EXPERIMENT)


def test_rows_are_trainings_with_one_evaluation_each(runs: RecordedRuns):
    newest, plain, hostile, bare = [runs.summary(row) for row in runs.rows]
    assert [run.scores["kid"] for run in (newest, plain, hostile)] == [0.5, 0.5, 0.25]
    assert newest.training["validation_loss"] == 1.0  # of its training
    assert differences(newest.params, plain.params) == {"evaluate.nearest_k": ("3", "5")}
    assert HOSTILE in hostile.name
    assert bare.scores == {}


def test_row_of_the_workspace_has_its_settings(runs: RecordedRuns, workspace: Path):
    main = workspace_run(settings())
    own = runs.row_of(main)
    assert own is not None
    assert own.data.params["evaluate.nearest_k"] == "5"
    other = workspace_run(settings(evaluate__nearest_k=3))
    assert runs.row_of(other) is runs.rows[0]
    assert runs.row_of(workspace_run(settings(evaluate__nearest_k=4))) is None


def test_row_of_before_a_setting_was_renamed_is_of_its_number_of_steps(runs: RecordedRuns):
    own = runs.row_of(workspace_run(settings()))
    assert own is not None
    own.data.params["sample.num_steps"] = own.data.params.pop("sample.num_inference_steps")
    assert runs.row_of(workspace_run(settings())) is own
    assert runs.row_of(workspace_run(settings(sample__num_inference_steps=7))) is None
    assert "sample.num_inference_steps" in runs.summary(own).params


def test_names_ids_and_beginnings_choose_runs(runs: RecordedRuns):
    newest, plain, *_ = runs.rows
    assert runs.choose([newest.info.run_id, plain.info.run_name]) == [newest, plain]
    assert runs.choose([newest.info.run_id[:8]]) == [newest]


def test_ambiguous_name_lists_the_runs(runs: RecordedRuns):
    for row in runs.rows:
        row.info._run_name = "twin"
    with pytest.raises(UserError, match=r"'twin': 4 runs begin so: \w{8} \(twin\), .*; give the"):
        runs.choose(["twin"])
    with pytest.raises(UserError, match="4 runs begin so"):
        runs.choose(["tw"])


def test_unknown_run_offers_the_nearest(runs: RecordedRuns):
    name = runs.rows[1].info.run_name
    with pytest.raises(UserError, match=f"no such run; did you mean '{name}'") as refused:
        runs.choose([f"{name}x"])
    assert "--list" in str(refused.value)
    known = runs.rows[0].info.run_id
    with pytest.raises(UserError, match=f"did you mean '{known[:8]}'"):
        runs.choose([f"{known[:7]}x"])
    with pytest.raises(UserError, match=f"did you mean '{known}'"):
        runs.choose([f"{known[:-1]}x"])
    for row in runs.rows:
        row.info._run_name = "a name that is longer than an id of MLflow"
    with pytest.raises(UserError, match="no such run; there are '"):
        runs.choose([""])


def test_facts_have_curves_figures_and_protocol(runs: RecordedRuns):
    facts = runs.facts(runs.rows[1], details=True)
    assert facts.curves["validation_loss"] == [(1.0, 3.0), (2.0, 1.5), (3.0, 1.0)]
    assert facts.curves["loss"] == [(1.0, 4.0), (2.0, 2.0), (3.0, pytest.approx(4 / 3, rel=1e-4))]
    assert facts.evaluation.protocol == PROTOCOL
    assert [one.name for one in facts.classes] == ["hills"]
    assert facts.neighbors is not None
    assert facts.value("validation_loss") == 1.0
    brief = runs.facts(runs.rows[1])
    assert (brief.neighbors, list(brief.curves)) == (None, ["validation_loss"])


def test_row_without_a_grid_shows_that_of_the_same_samples(runs: RecordedRuns):
    newest, plain, hostile = [runs.facts(row).grid for row in runs.rows[:3]]
    assert newest == plain != hostile
    assert plain is not None
    assert not ImageChops.difference(opened(plain), opened(png(grid(3)))).getbbox()


def opened(content: bytes) -> Image.Image:
    return Image.open(io.BytesIO(content)).convert("RGB")
