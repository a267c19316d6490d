"""What a finished training has left everywhere, to compare with another one."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from safetensors import safe_open

from helpers.checkout import Checkout
from liquidgen.stages.train.checkpoint import checkpoints

# how long it took and how much memory differ from run to run
VARYING = {"seconds", "images_per_second", "peak_memory_mb"}


def outcome(checkout: Checkout) -> dict[str, Any]:
    """Weights, last checkpoint, curves and their MLflow histories, without times and memory."""
    (model,) = (checkout.root / "data/models").iterdir()
    (weights,) = model.rglob("*.safetensors")
    (state,) = [f for f in (checkout.root / "work/train").iterdir() if checkpoints(f)]
    (journal,) = state.glob("epochs-*/metrics.jsonl")
    run_id = json.loads((model / "run.json").read_bytes())["run_id"]
    scores = json.loads((checkout.root / "metrics/train.json").read_bytes())
    tensors, facts = checkpoint(checkpoints(state)[-1][1])
    return {
        "weights": weights.read_bytes(),
        "tensors": tensors,
        "facts": facts,
        "curve": (checkout.root / "metrics/train.csv").read_text(),
        "scores": {key: value for key, value in scores.items() if key not in VARYING},
        "record": record(journal),
        "history": history(checkout, run_id),
    }


def checkpoint(path: Path) -> tuple[dict[str, bytes], dict[str, Any]]:
    """Bytes of all tensors of a checkpoint, and its facts."""
    with safe_open(path, framework="np") as file:
        tensors = {name: file.get_tensor(name).tobytes() for name in file.keys()}  # noqa: SIM118
        facts = json.loads(file.metadata()["facts"])
    facts["progress"] = {k: v for k, v in facts["progress"].items() if k not in VARYING}
    return tensors, facts


def record(path: Path) -> list[tuple[str, int, float]]:
    """Points of the local record, in their order."""
    events = map(json.loads, path.read_text().splitlines())
    return sorted(
        (key, event["step"], value)
        for event in events
        for key, value in event.get("metrics", {}).items()
        if key.removeprefix("train/") not in VARYING
    )


def history(checkout: Checkout, run_id: str) -> list[tuple[str, int, float]]:
    """All points of the MLflow run, also doubled ones; refuses a second run."""
    # not through MLflow, which leaves out what is doubled, and keeps a deleted database open
    with closing(sqlite3.connect(checkout.root / "mlflow.db")) as database:
        seed = str(checkout.params["train"]["seed"])
        ends = database.execute(
            "select distinct run_uuid, status from runs join params using (run_uuid)"
            " where params.key = 'train.seed' and params.value = ?",
            [seed],
        ).fetchall()
        assert ends == [(run_id, "FINISHED")], ends
        points = database.execute(
            "select key, step, value from metrics where run_uuid = ?", [run_id]
        ).fetchall()
    return sorted(p for p in points if p[0].removeprefix("train/") not in VARYING)
