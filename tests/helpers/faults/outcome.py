"""Reads everything that a finished training leaves, to compare it with another training."""

import json
import sqlite3
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import Any

from safetensors import safe_open

from helpers.checkout import Checkout
from helpers.faults.training import state_folder
from liquidgen.stages.train.checkpoint import checkpoints

# metrics that differ from run to run
NOT_REPRODUCIBLE = {"seconds", "images_per_second", "peak_memory_mb"}

Points = list[tuple[str, int, float]]  # metric, step, value


def read_outcome(checkout: Checkout) -> dict[str, Any]:
    """Read weights, last checkpoint, curve, scores, journal and MLflow metrics of a training."""
    (model,) = (checkout.root / "data/models").iterdir()
    (weights,) = model.rglob("*.safetensors")
    state = state_folder(checkout)
    (journal,) = state.glob("epochs-*/metrics.jsonl")
    run_id = json.loads((model / "run.json").read_bytes())["run_id"]
    scores = json.loads((checkout.root / "metrics/train.json").read_bytes())
    _, newest = checkpoints(state)[-1]
    tensors, facts = read_checkpoint(newest)
    return {
        "weights": weights.read_bytes(),
        "tensors": tensors,
        "facts": facts,
        "curve": (checkout.root / "metrics/train.csv").read_text(),
        "scores": {key: value for key, value in scores.items() if key not in NOT_REPRODUCIBLE},
        "journal": journal_points(journal),
        "mlflow": mlflow_points(checkout, run_id),
    }


def read_checkpoint(path: Path) -> tuple[dict[str, bytes], dict[str, Any]]:
    """Read the bytes of all tensors, and the metadata."""
    with safe_open(path, framework="np") as file:
        tensors = {name: file.get_tensor(name).tobytes() for name in file.keys()}  # noqa: SIM118
        facts = json.loads(file.metadata()["facts"])
    progress = facts["progress"].items()
    facts["progress"] = {key: value for key, value in progress if key not in NOT_REPRODUCIBLE}
    return tensors, facts


def journal_points(path: Path) -> Points:
    """Read all points of the journal, including duplicates, sorted."""
    events = map(json.loads, path.read_text().splitlines())
    return reproducible(
        (key, event["step"], value)
        for event in events
        for key, value in event.get("metrics", {}).items()
    )


def mlflow_points(checkout: Checkout, run_id: str) -> Points:
    """Read all points of the MLflow run, including duplicates, sorted.

    Asserts that it is the only run of this training, and finished.
    """
    # not through MLflow's client, which hides duplicates and keeps a deleted database open
    with closing(sqlite3.connect(checkout.root / "mlflow.db")) as database:
        seed = str(checkout.params["train"]["seed"])
        runs = database.execute(
            "select distinct run_uuid, status from runs join params using (run_uuid)"
            " where params.key = 'train.seed' and params.value = ?",
            [seed],
        ).fetchall()
        assert runs == [(run_id, "FINISHED")], runs
        return reproducible(
            database.execute(
                "select key, step, value from metrics where run_uuid = ?", [run_id]
            ).fetchall()
        )


def reproducible(points: Iterable[tuple[str, int, float]]) -> Points:
    """Sort points, without those of NOT_REPRODUCIBLE metrics."""
    return sorted(p for p in points if p[0].removeprefix("train/") not in NOT_REPRODUCIBLE)
