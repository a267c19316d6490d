"""Default view of the runs in MLflow: columns and order of the table, charts and images.

MLflow has no API for that: its front end keeps the state of a shared view as JSON in a tag of the
experiment, and opens it through the page's address. The keys below are those of MLflow 3.17; a
front end that does not know them shows its own default view.
"""

import json
from typing import Any

from liquidgen.tracking.store import Store

VIEW = "liquidgen"
VIEW_TAG = f"mlflow.sharedViewState.{VIEW}"
# of the page that opens the view without MLflow's banner and assistant: see `mlflow_app`
PATH = "/liquidgen"
EXPERIMENT_VARIABLE = "LIQUIDGEN_EXPERIMENT"
ROWS = 'tags.stage = "train"'  # without it, runs of sample and evaluate are listed, too
SORT = "metrics.`evaluate/kid`"  # the best run is on top
# columns of the table in this order, with their widths in px: scores and facts of a training, which
# fit into a window of 1600 px, and the settings that are most often compared
COLUMNS = {
    "metrics.`evaluate/kid`": 105,
    "metrics.`evaluate/fd`": 90,
    "metrics.`evaluate/class_accuracy`": 175,
    "metrics.`train/validation_loss`": 155,
    "metrics.`train/parameters`": 130,
    "metrics.`train/images_per_second`": 185,
    "params.`train.num_epochs`": 145,
    "params.`train.learning_rate`": 150,
    "params.`sample.guidance_scale`": 175,
    "params.`sample.num_inference_steps`": 145,
    "params.`evaluate.features`": 135,  # scores of different networks do not compare
    "params.`model`": 80,
    "params.`dataset`": 120,
    "tags.`dvc.experiment`": 130,
}
NAME_COLUMN = {"attributes.`Run Name`": 265}
SCORES = ["evaluate/kid", "evaluate/fd", "evaluate/class_accuracy"]
IMAGES_LAYOUT = {"columns": 1, "cardHeight": 560}  # px; two rows of three or four runs
MAX_RUNS_PER_CHART = 20


def save_view(store: Store, experiment: str) -> str:
    """Save the view in the experiment, which is created if it does not exist.

    Args:
        store: MLflow.
        experiment: Name of the experiment of the trainings.

    Returns:
        Id of the experiment.
    """
    store.rows.experiment(f"{experiment}-data")  # listed beside it, also before its first run
    experiment_id = store.rows.experiment(experiment)
    store.client.set_experiment_tag(experiment_id, VIEW_TAG, json.dumps(_state()))
    return experiment_id


def shared_page(experiment_id: str) -> str:
    """Return the path of the page that shows the view on any server, relative to its address."""
    # without `workflowType` MLflow opens a page for language models, which hides the runs
    query = f"workflowType=machine_learning&viewStateShareKey={VIEW}"
    return f"#/experiments/{experiment_id}/runs?{query}"


def _state() -> dict[str, Any]:
    """Return the state of MLflow's front end."""
    # MLflow adds one chart for each other metric to the section of its prefix, such as `train`
    sections: dict[str, list[dict[str, Any]]] = {
        "comparison": [
            # MLflow smooths lines where nothing is said, and so shows losses that were not there
            {"type": "LINE", "metricKey": "train/validation_loss", "lineSmoothness": 0},
            *({"type": "BAR", "metricKey": key} for key in SCORES),
            _scatter("train/validation_loss", "METRIC"),
            _scatter("sample.guidance_scale", "PARAM"),
        ],
        "settings": [
            {
                "type": "DIFFERENCE",
                "chartName": "settings that differ",
                "compareGroups": ["Parameters"],
                "showDifferencesOnly": True,
                "showChangeFromBaseline": False,
            }
        ],
        "images": [_images("samples", 0), _images("preview", 100)],
        "train": [],
        "evaluate": [],
    }
    layouts = {
        "comparison": {"columns": 3, "cardHeight": 320},
        "settings": {"columns": 1, "cardHeight": 320},
        "images": IMAGES_LAYOUT,
    }
    return {
        "selectedColumns": list(COLUMNS),
        "columnOrder": [*NAME_COLUMN, *COLUMNS],
        "columnWidths": NAME_COLUMN | COLUMNS,
        "searchFilter": ROWS,
        "orderByKey": SORT,
        "orderByAsc": True,
        "runsHiddenMode": "FIRST_20_RUNS",
        "compareRunCharts": [
            {
                "uuid": f"{section}-{number}",
                "metricSectionId": section,
                "runsCountToCompare": MAX_RUNS_PER_CHART,
                "isGenerated": True,
            }
            | chart
            for section, charts in sections.items()
            for number, chart in enumerate(charts)
        ],
        "compareRunSections": [
            {"uuid": name, "name": name, "display": True, "isGenerated": True, "isReordered": True}
            | layouts.get(name, {})
            for name in sections
        ],
        "isAccordionReordered": True,  # otherwise MLflow sorts the sections by name
    }


def _images(key: str, step: int) -> dict[str, Any]:
    """Return a chart of the images of one step; of previews, a step is a percentage."""
    # the parameters of a run would push its image out of sight
    return {"type": "IMAGE", "imageKeys": [key], "step": step, "showRunParams": False}


def _scatter(key: str, kind: str) -> dict[str, Any]:
    """Return a chart of the main score against a metric or a setting."""
    score = {"key": SCORES[0], "type": "METRIC"}
    return {"type": "SCATTER", "xaxis": {"key": key, "type": kind}, "yaxis": score}
