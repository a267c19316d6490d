"""Runs as stages record them."""

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from mlflow.entities import Run as MlflowRun

from liquidgen.tracking import Run, open_run
from liquidgen.tracking.rows import EXTERNAL_ID_TAG
from liquidgen.tracking.store import Store

PARAMS = {"dataset": "emoji", "train.seed": 0, "sample.guidance_scale": 2.0}


def opened(root: Path, stage: str = "train", **arguments: Any) -> AbstractContextManager[Run]:
    """A run of the experiment `test`."""
    arguments = {"name": stage, "params": PARAMS} | arguments
    return open_run(root, "test", stage, **arguments)


def trained(
    root: Path, steps: range, *, epochs: int = 1, fails: Exception | None = None, **arguments
) -> str:
    """Log one loss per step, as a training of so many epochs does."""
    folder = root / "work/train/key"
    journal = folder / f"epochs-{epochs}/metrics.jsonl"
    earlier = sorted(folder.glob("**/metrics.jsonl"))
    with opened(root, journal=journal, earlier=earlier, **arguments) as run:
        for step in steps:
            run.log_metrics({"loss": 1.0 / (step + 1)}, step)
        if fails:
            raise fails
    return run.run_id


def logged_steps(root: Path, run_id: str) -> list[int]:
    """Steps of the losses of a run."""
    history = Store(root).client.get_metric_history(run_id, "train/loss")
    return sorted(point.step for point in history)


def stored(root: Path, run_id: str) -> MlflowRun:
    """A run as MLflow has it."""
    return Store(root).client.get_run(run_id)


def rows(root: Path, experiment: str = "test") -> list[MlflowRun]:
    """The active runs of an experiment."""
    client = Store(root).client
    found = client.get_experiment_by_name(experiment)
    return list(client.search_runs([found.experiment_id])) if found else []


def mlflow_id_of(root: Path, run_id: str) -> str:
    """MLflow's id of the one run whose tag is an id that was assigned here."""
    (run,) = [run for run in rows(root) if run.data.tags.get(EXTERNAL_ID_TAG) == run_id]
    return run.info.run_id
