"""Default view of the runs in MLflow: columns of the table, charts and images.

MLflow has no API for that: its front end keeps the state of a shared view as JSON in a tag of the
experiment, and opens it through the page's address. The keys below are those of MLflow 3.17; a
front end that does not know them shows its own default view.
"""

import json

from liquidgen.tracking.store import Store

VIEW = "liquidgen"
# of the table: scores of a training, and the settings that are most often compared
COLUMNS = [
    "metrics.`evaluate/fd`",
    "metrics.`evaluate/kid`",
    "metrics.`evaluate/class_accuracy`",
    "metrics.`train/validation_loss`",
    "params.`dataset`",
    "params.`image_size`",
    "params.`model`",
    "params.`train.learning_rate`",
    "params.`train.num_epochs`",
    "params.`sample.guidance_scale`",
    "params.`evaluate.features`",  # scores of different networks do not compare
    "tags.`dvc.experiment`",
]
# charts by section, in this order; MLflow adds one chart for each other metric to the section of
# its prefix, such as `train`
IMAGES = "images"
CHARTS = {
    IMAGES: ["samples", "preview"],
    "train": ["train/loss", "train/validation_loss"],
    "evaluate": ["evaluate/fd", "evaluate/kid", "evaluate/class_accuracy"],
}
IMAGES_LAYOUT = {"columns": 1, "cardHeight": 720}  # px; two rows of three or four runs
MAX_RUNS_PER_CHART = 10


def save_view(store: Store, experiment: str) -> str:
    """Save the view in the experiment, which is created if it does not exist.

    Args:
        store: MLflow.
        experiment: Name of the experiment of the trainings.

    Returns:
        Path of the page that shows the view, relative to MLflow's address.
    """
    store.rows.experiment(f"{experiment}-data")  # listed beside it, also before its first run
    experiment_id = store.rows.experiment(experiment)
    state = json.dumps(_state(_last_step(store, experiment_id)))
    store.client.set_experiment_tag(experiment_id, f"mlflow.sharedViewState.{VIEW}", state)
    # without `workflowType` MLflow opens a page for language models, which hides the runs
    query = f"workflowType=machine_learning&viewStateShareKey={VIEW}"
    return f"#/experiments/{experiment_id}/runs?{query}"


def _last_step(store: Store, experiment_id: str) -> int:
    """Return the last step of the newest training: an image chart shows exactly one step."""
    finished = store.client.search_runs(
        [experiment_id],
        "metrics.`train/num_steps` > 0",
        order_by=["start_time DESC"],
        max_results=1,
    )
    return int(finished[0].data.metrics["train/num_steps"]) if finished else 0


def _state(last_step: int) -> dict:
    """Return the state of MLflow's front end."""
    sections = [
        {"uuid": name, "name": name, "display": True, "isGenerated": True, "isReordered": True}
        | (IMAGES_LAYOUT if name == IMAGES else {})
        for name in CHARTS
    ]
    charts = [
        {
            "uuid": key,
            "metricSectionId": section,
            "runsCountToCompare": MAX_RUNS_PER_CHART,
            "isGenerated": True,
        }
        | (_image_chart(key, last_step) if section == IMAGES else _metric_chart(key))
        for section, keys in CHARTS.items()
        for key in keys
    ]
    return {
        "selectedColumns": COLUMNS,
        "compareRunCharts": charts,
        "compareRunSections": sections,
        "isAccordionReordered": True,  # otherwise MLflow sorts the sections by name
    }


def _image_chart(key: str, last_step: int) -> dict:
    step = last_step if key == "preview" else 0
    # the parameters of a run would push its image out of sight
    return {"type": "IMAGE", "imageKeys": [key], "step": step, "showRunParams": False}


def _metric_chart(key: str) -> dict:
    return {"type": "BAR", "metricKey": key}  # shown as a line where there are several steps
