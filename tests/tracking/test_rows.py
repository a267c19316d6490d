"""Rows of the table: deleted ones are left alone, and none mixes two experiments."""

from pathlib import Path

import pytest
from helpers.tracking import PARAMS, logged_steps, opened, rows, stored, trained
from mlflow.entities import ViewType
from PIL import Image

from liquidgen.tracking.store import Store

pytestmark = pytest.mark.fault("runs deleted in MLflow, rows of experiments")


def all_rows(root: Path) -> dict[str, str]:
    """Lifecycle stage of each run of the experiment `test`."""
    client = Store(root).client
    experiment = client.get_experiment_by_name("test")
    found = client.search_runs([experiment.experiment_id], run_view_type=ViewType.ALL)
    return {run.info.run_id: run.info.lifecycle_stage for run in found}


@pytest.mark.parametrize("what", ["run", "experiment"])
def test_training_deleted_while_it_runs_is_left_alone(
    root: Path, what: str, caplog: pytest.LogCaptureFixture
):
    client = Store(root).client
    journal = root / "work/train/key/epochs-1/metrics.jsonl"
    with opened(root, journal=journal) as run:
        if what == "run":
            client.delete_run(run.run_id)
        else:
            client.delete_experiment(client.get_run(run.run_id).info.experiment_id)
        for step in range(50):
            run.log_metrics({"loss": 1.0}, step)
    for stage in ("sample", "evaluate"):
        with opened(root, stage, parent=run.run_id) as child:
            child.log_to_parent({"fd": 1.0})
            child.log_image(Image.new("RGB", (8, 8)), "samples", 0, on_parent=True)
    (line,) = caplog.messages
    assert "was deleted in MLflow" in line
    caplog.clear()
    assert all_rows(root) == {run.run_id: "deleted"}
    assert not list(root.glob("work/tracking/*/"))
    with opened(root, name="another"):
        pass
    assert caplog.messages == []
    assert all_rows(root)[run.run_id] == "deleted"
    client.restore_run(run.run_id)
    trained(root, range(50, 52), resume=run.run_id)
    assert logged_steps(root, run.run_id) == list(range(52))


def test_deleted_experiment_returns_without_deleted_runs(root: Path):
    alone, together = trained(root, range(1)), trained(root, range(1), epochs=2)
    client = Store(root).client
    client.delete_run(alone)
    client.delete_experiment(client.get_run(together).info.experiment_id)
    new = trained(root, range(1), epochs=3)
    stages = all_rows(root)
    assert stages == {alone: "deleted", together: "deleted", new: "active"}


def test_rows_of_dvc_experiments_are_apart(root: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("DVC_EXP_NAME", "first")
    training = trained(root, range(3))
    scales = {"first": 1.0, "second": 2.0}
    for stage in ("sample", "evaluate"):  # one after the other, as the queue may run them
        for experiment, scale in scales.items():
            monkeypatch.setenv("DVC_EXP_NAME", experiment)
            params = PARAMS | {"sample.guidance_scale": scale}
            with opened(root, stage, parent=training, params=params) as child:
                if stage == "evaluate":
                    child.log_to_parent({"fd": scale})
                else:
                    child.log_image(Image.new("RGB", (8, 8)), "samples", 0, on_parent=True)
    shown = [run for run in rows(root) if "mlflow.parentRunId" not in run.data.tags]
    assert len(shown) == 2
    for run in shown:
        experiment = run.data.tags["dvc.experiment"]
        assert run.data.params["sample.guidance_scale"] == str(scales[experiment])
        assert run.data.params["train.seed"] == "0"
        assert run.data.metrics["evaluate/fd"] == scales[experiment]
        images = Store(root).client.list_artifacts(run.info.run_id, "images")
        assert len([image for image in images if image.path.endswith(".png")]) == 1
        children = [
            r for r in rows(root) if r.data.tags.get("mlflow.parentRunId") == run.info.run_id
        ]
        assert {r.data.tags["dvc.experiment"] for r in children} == {experiment}
        assert len(children) == 2


def test_row_keeps_name_of_experiment_that_scored_it(root: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("DVC_EXP_NAME", "first")
    training = trained(root, range(3))
    with opened(root, "evaluate", parent=training) as child:
        child.log_to_parent({"fd": 1.0})
    monkeypatch.setenv("DVC_EXP_NAME", "second")
    trained(root, range(3, 4), resume=training)
    assert stored(root, training).data.tags["dvc.experiment"] == "first"


def test_stage_that_shows_nothing_claims_no_row(root: Path):
    training = trained(root, range(3))
    with opened(root, "sample", parent=training):  # as if it was stopped
        pass
    params = PARAMS | {"sample.guidance_scale": 3.0}
    with opened(root, "sample", parent=training, params=params) as child:
        child.log_image(Image.new("RGB", (8, 8)), "samples", 0, on_parent=True)
    assert stored(root, training).data.params["sample.guidance_scale"] == "3.0"


def test_other_row_that_was_deleted_is_left_alone(root: Path, caplog: pytest.LogCaptureFixture):
    training = trained(root, range(3))
    for scale in (1.0, 2.0, 2.0):
        params = PARAMS | {"sample.guidance_scale": scale}
        with opened(root, "evaluate", parent=training, params=params) as child:
            child.log_to_parent({"fd": scale})
        other = stored(root, child.run_id).data.tags["mlflow.parentRunId"]
    caplog.clear()
    count = len(all_rows(root))
    Store(root).client.delete_run(other)
    for _ in range(2):
        with opened(root, "evaluate", parent=training, params=params) as child:
            child.log_to_parent({"fd": 3.0})
    assert len(caplog.messages) == 1
    assert len(all_rows(root)) == count


def test_run_deleted_before_it_logs_anything_is_no_failure(
    root: Path, caplog: pytest.LogCaptureFixture
):
    with opened(root) as run:
        Store(root).client.delete_run(run.run_id)
    (line,) = caplog.messages
    assert "was deleted in MLflow" in line
    assert not list(root.glob("work/tracking/*/"))


@pytest.mark.parametrize(("steps", "is_own"), [(50, True), (25, False)])
def test_row_of_before_a_setting_was_renamed_keeps_its_scores(root: Path, steps: int, is_own: bool):
    training = trained(root, range(1))
    earlier = PARAMS | {"sample.num_steps": 50}
    with opened(root, "evaluate", parent=training, params=earlier) as child:
        child.log_to_parent({"fd": 1.0})
    now = PARAMS | {"sample.num_inference_steps": steps}
    with opened(root, "evaluate", parent=training, params=now) as child:
        child.log_to_parent({"fd": 2.0})
    row = stored(root, child.run_id).data.tags["mlflow.parentRunId"]
    assert (row == training) == is_own
    assert stored(root, row).data.metrics["evaluate/fd"] == 2.0
    if not is_own:
        assert stored(root, training).data.metrics["evaluate/fd"] == 1.0
        assert stored(root, row).info.run_name.endswith(" steps=25")
