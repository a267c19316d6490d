"""What MLflow shows of a row beside its numbers: its name and its description."""

import re
from itertools import chain, count
from typing import TYPE_CHECKING
from urllib.parse import quote

from liquidgen.config.changes import short_text, with_current_names
from liquidgen.tracking.journal import Header, now
from liquidgen.utils.text import markdown

if TYPE_CHECKING:
    from mlflow.entities import Metric, Run

DESCRIPTION_TAG = "mlflow.note.content"
DVC_TAG = "dvc.experiment"
# tag of a training: what its first sampling and evaluation added to its name
LATER_TAG = "liquidgen.later"


def placeholder(run_id: str) -> str:
    """Return the name of a run that was recorded elsewhere."""
    return f"recorded elsewhere ({run_id[:8]})"


def free_name(name: str, taken: set[str]) -> str:
    """Return a name that is not taken: this one, or one with a number."""
    numbered = (f"{name} ({number})" for number in count(2))
    return next(free for free in chain([name], numbered) if free not in taken)


def name_of_other(training: "Run", header: Header) -> str:
    """Return the name of another row: its training's, and the settings that differ from its."""
    name = training.info.run_name.removesuffix(f" {training.data.tags.get(LATER_TAG)}")
    first = with_current_names(training.data.params)
    # a parameter of MLflow is text
    other = {
        key: value.removesuffix(".0")
        for key, value in header.later_settings.items()
        if first.get(key, value) != value
    }
    return f"{name} {short_text(other) or header.tags.get(DVC_TAG, '')}".strip()


def description_of_other(training: "Run", header: Header) -> str:
    """Return the description of another row of a training, which it links to."""
    info = training.info
    page = f"#/experiments/{info.experiment_id}/runs/{info.run_id}"
    link = f"[{markdown(info.run_name)}]({page})"
    return f"Another row of the training {link}.\n\n{header.description}".strip()


def with_image(description: str, run: str, key: str, files: list[str]) -> str:
    """Return a description that shows the newest image of a series.

    Args:
        description: The description, perhaps with an older image.
        run: MLflow's id of the run.
        key: Name of the series.
        files: Paths of the run's images, whose names MLflow makes of key, step and time.
    """
    images = [file for file in files if re.match(rf"images/{re.escape(key)}\W.*\.png$", file)]
    if not images:
        return description
    newest = max(images, key=lambda file: re.findall(r"timestamp\W(\d+)", file))
    text = re.sub(rf"!\[{re.escape(key)}\]\(get-artifact[^)]*\)", "", description).strip()
    return f"{text}\n\n![{key}](get-artifact?path={quote(newest, safe='')}&run_uuid={run})".lstrip()


def results(training: "Run") -> list["Metric"]:
    """Return the last values of a training's metrics, with which its other rows compare."""
    from mlflow.entities import Metric

    metrics = training.data.metrics
    step = int(metrics.get("train/num_steps", 0))
    return [
        Metric(key, value, now(), step)
        for key, value in metrics.items()
        if key.startswith("train/")
    ]
