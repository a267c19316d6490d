"""The pages that are written: of the workspace, with and without MLflow, and of chosen runs."""

import html
import json
import shutil
import socket
import subprocess
import time
from pathlib import Path

import pytest
from helpers.checkout import PROJECT
from helpers.runs import EXPERIMENT, HOSTILE, settings, write_outputs
from helpers.servers import unused_port

from liquidgen.report import reports
from liquidgen.report.reports import report_chosen, report_workspace
from liquidgen.report.workspace import changed_since, committed_params, settings_of
from liquidgen.stages.evaluate.stage import write_page
from liquidgen.utils.errors import UserError


def test_workspace_is_shown_beside_other_runs(workspace: Path):
    path = report_workspace(settings(), workspace)
    assert path == workspace / "reports/index.html"
    page = path.read_text()
    assert "Other runs are missing" not in page
    assert page.count('data-group="grid"') == 3  # its own, and those of two others
    assert page.count("<b>train.seed</b> 5") == 1  # in the table alone
    assert "<b>evaluate.nearest_k</b> 3" in page
    assert "<b>train.learning_rate</b> 0.002" in page
    assert html.escape(HOSTILE, quote=True).replace("&#x27;", "&#39;") in page
    assert HOSTILE not in page


def test_chosen_runs_have_a_page_of_their_own(workspace: Path):
    path = report_chosen(names(workspace)[1:3], workspace, EXPERIMENT)
    assert path == workspace / "reports/compare.html"
    page = path.read_text()
    assert page.count('data-group="grid"') == 2
    assert 'data-group="neighbors"' in page


def names(root: Path) -> list[str]:
    """Ids of the rows, the newest first."""
    return [run.run_id for run in reports.recorded_runs(root, EXPERIMENT)]


def test_page_is_written_while_the_server_is_dead(workspace: Path, monkeypatch: pytest.MonkeyPatch):
    address = f"127.0.0.1:{unused_port()}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://bob:s3cr3t@{address}")
    page = report_workspace(settings(), workspace).read_text()
    assert f"Other runs are missing here: MLflow cannot read http://{address}" in page
    assert "s3cr3t" not in page
    assert page.count('data-group="grid"') == 1
    assert "0.4 to 0.6" in page  # the scores and their intervals are there
    with pytest.raises(UserError, match=f"MLflow cannot read http://{address}") as refused:
        report_chosen(["x"], workspace, EXPERIMENT)
    assert "s3cr3t" not in str(refused.value)


def test_server_that_never_answers_costs_bounded_time(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        uri = f"http://127.0.0.1:{silent.getsockname()[1]}"
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        started = time.monotonic()
        page = report_workspace(settings(), workspace, patience=0.2).read_text()
    assert "no answer within 0.2 s" in page
    assert time.monotonic() - started < 20  # far below MLflow's own retries


def test_missing_and_damaged_outputs_are_one_line(workspace: Path):
    with pytest.raises(UserError, match=r"evaluate\.json: not of"):
        report_workspace(settings(model="tiny"), workspace)
    scores = workspace / "metrics/evaluate.json"
    content = scores.read_bytes()
    try:
        scores.write_bytes(content[:50])
        with pytest.raises(UserError, match=r"metrics/evaluate.json: damaged: .*dvc repro"):
            report_workspace(settings(), workspace)
        scores.unlink()
        with pytest.raises(UserError, match=r"metrics/evaluate\.json: missing; run `dvc repro`"):
            report_workspace(settings(), workspace)
    finally:
        scores.write_bytes(content)


def test_settings_that_changed_since_the_run_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    params = settings()
    assert changed_since(params) == []  # DVC did not run here
    recorded = {
        "train": dict(params.raw["train"], num_epochs=99),
        "models.nano": params.raw["models"]["nano"],
        "image_size": 32,
    }
    lock = {"stages": {"train": {"params": {"params.yaml": recorded}}}}
    Path("dvc.lock").write_text(json.dumps(lock))
    assert changed_since(params) == ["image_size", "train.num_epochs"]


def test_last_commit_is_compared_with_where_there_is_no_other_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert committed_params(settings()) is None  # no repository
    shutil.copy(PROJECT / "params.yaml", tmp_path)
    identity = ["-c", "user.name=tests", "-c", "user.email=tests@localhost"]
    for command in (["init", "-q"], ["add", "params.yaml"], [*identity, "commit", "-qm", "start"]):
        subprocess.run(["git", *command], check=True)
    committed = committed_params(settings())
    assert committed == settings_of(settings())
    assert committed_params(settings(train__num_epochs=99)) == committed


def test_evaluate_does_not_compare_with_its_lock_of_before(
    workspace: Path, caplog: pytest.LogCaptureFixture
):
    """DVC writes the section of a stage once the stage has ended."""
    lock = {"stages": {"evaluate": {"params": {"params.yaml": {"evaluate.features": "dinov2"}}}}}
    path = Path("dvc.lock")
    path.write_text(json.dumps(lock))
    try:
        write_page(settings(), workspace)
        page = (workspace / "reports/index.html").read_text()
        report_workspace(settings(), workspace)
        later = (workspace / "reports/index.html").read_text()
    finally:
        path.unlink()
    note = "params.yaml has other values by now than this run had: evaluate.features"
    assert (note in page, note in later) == (False, True)
    assert caplog.messages == []


def test_temporary_experiment_writes_no_page_of_the_workspace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    params = settings()
    copy = tmp_path / ".dvc/tmp/exps/tmp1"
    write_outputs(copy, params, "ab" * 16)
    monkeypatch.chdir(copy)
    write_page(params, tmp_path)
    assert not (tmp_path / "reports").exists()
    assert caplog.messages == []
