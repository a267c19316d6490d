"""Runs to compare: facts of one, files of a workspace, and runs recorded in MLflow."""

import csv
import io
import json
from datetime import datetime
from pathlib import Path
from typing import Any

from PIL import Image

from helpers.checkout import PROJECT
from liquidgen.config.params import Params, load_params
from liquidgen.figures.grid import class_grid
from liquidgen.generator.run_file import write_run
from liquidgen.report.facts import EvaluationFile, RunFacts
from liquidgen.stages.download.procedural import STYLES, draw
from liquidgen.tracking import open_run

EXPERIMENT = "test"
HOSTILE = "<script>alert('x')</script> & <b>bold</b>"
SCORES = {
    "kid": 0.5,
    "train_kid": 0.1,
    "noise_kid": 2.1,
    "kid_tells_noise": 1.0,
    "kid_std": 0.1,
    "train_kid_std": 0.1,
    "noise_kid_std": 0.1,
    "reconstruction_kid": 0.05,
    "precision": 0.7,
    "train_precision": 0.9,
    "noise_precision": 0.6,
    "precision_tells_noise": 0.0,
    "class_accuracy": 0.75,
    "probe_accuracy": 1.0,
    "noise_class_accuracy": 0.0,
    "class_accuracy_tells_noise": 1.0,
    "copied_share": 0.25,
    "reconstruction_copied_share": 0.125,
}
PROTOCOL = {
    "num_compared": 40,
    "num_reference": 50,
    "feature_network": "builtin",
    "feature_digest": "0123456789ab",
    "sampling": {
        "solver": "euler",
        "num_inference_steps": 50,
        "seed": 0,
        "weights_digest": "ba9876543210",
    },
}
LOSSES = ["loss", "validation_loss"]
LOSSES += [f"validation_loss_t{t:.2f}-{t + 0.25:.2f}" for t in (0, 0.25, 0.5, 0.75)]
CURVE = [(1.0, 1.5), (2.0, 1.25), (3.0, 1.0)]
CURVES = {"loss": CURVE, "validation_loss": CURVE, "validation_loss_t0.00-0.25": CURVE}


def png(image: Image.Image) -> bytes:
    """An image as PNG."""
    stream = io.BytesIO()
    image.save(stream, "png")
    return stream.getvalue()


def grid(seed: int, side: int = 32) -> Image.Image:
    """A grid of drawings, one row per style."""
    names = list(STYLES)[:3]
    rows = [[draw(name, side, seed + number) for number in range(4)] for name in names]
    return class_grid(rows, names)


def run_facts(name: str = "a run", **changes: Any) -> RunFacts:
    """Facts of a run."""
    params = {"dataset": "procedural", "train.learning_rate": "0.004", "sample.seed": "0"}
    values = {
        "run_id": "ab" * 16,
        "name": name,
        "started": datetime(2026, 1, 2, 3, 4),
        "status": "FINISHED",
        "params": params | {"evaluate.features": "builtin", "dataset.license": "CC0-1.0"},
        "scores": SCORES,
        "training": {"validation_loss": 1.0, "num_steps": 30.0},
        "evaluation": EvaluationFile(protocol=PROTOCOL),
    }
    return RunFacts(**(values | changes))


def settings(**changes: object) -> Params:
    """The settings of params.yaml; `__` in an argument stands for the dot of a path."""
    named = {key.replace("__", "."): value for key, value in changes.items()}
    return load_params(PROJECT / "params.yaml", {"tracking.experiment": EXPERIMENT} | named)


def write_outputs(root: Path, params: Params, run_id: str, first_class: str = "hills") -> None:
    """Write what the stages leave in a workspace, as far as the page shows it."""
    classes, curve = io.StringIO(), io.StringIO()
    table = csv.writer(classes)
    table.writerows([["class", "samples", "holdout"], [first_class, 0.5, 1.0], ["marble", "", 0.9]])
    csv.writer(curve).writerows(
        [["epoch", *LOSSES], [1, 2, 1.5, *[1.5] * 4], [2, 1, 1.25, *[1.25] * 4]]
    )
    protocol = PROTOCOL | {"samples_of": f"model {params.run_name}"}
    evaluation = SCORES | {"protocol": protocol, "intervals": {"kid": [0.4, 0.6]}}
    contents = {
        params.metrics_folder / "evaluate.json": json.dumps(evaluation).encode(),
        params.metrics_folder / "train.json": b'{"validation_loss": 1.25, "num_steps": 20}',
        params.metrics_folder / "train.csv": curve.getvalue().encode(),
        params.samples_folder / "grid.png": png(grid(0)),
        params.evaluation_folder / "classes.csv": classes.getvalue().encode(),
        params.evaluation_folder / "classes.png": png(grid(2)),
        params.evaluation_folder / "neighbors.png": png(grid(1)),
    }
    for path, content in contents.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(content)
    (root / params.model_folder).mkdir(parents=True)
    write_run(root / params.model_folder, run_id)


def record_training(root: Path, params: Params, name: str) -> str:
    """Record a training as the stage does; returns the id that its model keeps."""
    with open_run(root, EXPERIMENT, "train", name=name, params=params.flat()) as run:
        for step in (10, 20, 30):
            run.log_metrics({"loss": 40 / step, "epoch": step / 10}, step)
            run.log_metrics({"validation_loss": 30 / step}, step)
        run.log_metrics({"num_steps": 30}, 30)
    return run.run_id


def record_samples(root: Path, params: Params, training: str, seed: int) -> None:
    """Record the samples of a training, whose grid is of a seed of its own."""
    settings = params.flat("sample")
    with open_run(root, EXPERIMENT, "sample", name="s", params=settings, parent=training) as run:
        run.log_image(grid(seed), "samples", step=0, on_parent=True)


def record_scores(root: Path, params: Params, training: str, kid: float, folder: Path) -> None:
    """Record the scores of samples."""
    settings = params.flat("sample", "evaluate")
    scores = SCORES | {"kid": kid}
    files = {
        "evaluate.json": json.dumps(scores | {"protocol": PROTOCOL}).encode(),
        "classes.csv": b"class,samples,holdout\nhills,0.25,1.0\n",
        "neighbors.png": png(grid(2)),
    }
    with open_run(root, EXPERIMENT, "evaluate", name="e", params=settings, parent=training) as run:
        run.log_metrics(scores, step=0)
        run.log_to_parent(scores)
        for name, content in files.items():
            (folder / name).write_bytes(content)
            run.log_artifact(folder / name)
