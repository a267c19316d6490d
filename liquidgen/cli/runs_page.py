"""MLflow's page of the runs: which columns, curves and pictures it shows, and in what order."""

import json

from liquidgen.tracking.store import Store

VIEW = "liquidgen"
# of the table: what a training run scored, and the settings that are most often compared
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
    "tags.`sample.guidance_scale`",
    "tags.`dvc.experiment`",
]
# sections of the chart page, and which of their charts come first; MLflow adds one for each other
# metric, and puts `train/loss` into the section `train`
CHARTS = {
    "pictures": ["samples", "preview"],
    "train": ["train/loss", "train/validation_loss"],
    "evaluate": ["evaluate/fd", "evaluate/kid", "evaluate/class_accuracy"],
}
PICTURES_LAYOUT = {"columns": 1, "cardHeight": 720}  # px; two rows of three or four runs


def prepare_view(store: Store, experiment: str) -> str:
    """Make sure that the experiments exist, choose what the page shows; returns the page's path."""
    store.experiment(f"{experiment}-data")
    found = store.experiment(experiment)
    view = json.dumps(_view(_last_step(store, found)))
    store.client.set_experiment_tag(found, f"mlflow.sharedViewState.{VIEW}", view)
    # MLflow opens experiments in a view for language models, which hides runs, unless told so
    return f"#/experiments/{found}/runs?workflowType=machine_learning&viewStateShareKey={VIEW}"


def _last_step(store: Store, experiment: str) -> int:
    """The last step of the newest training: MLflow shows pictures of exactly one step."""
    finished = store.client.search_runs(
        [experiment], "metrics.`train/num_steps` > 0", order_by=["start_time DESC"], max_results=1
    )
    return int(finished[0].data.metrics["train/num_steps"]) if finished else 0


def _view(last_step: int) -> dict:
    """State of MLflow's page, with pictures of one step of the training."""
    sections = [
        {"uuid": name, "name": name, "display": True, "isGenerated": True, "isReordered": True}
        for name in CHARTS
    ]
    sections[0] |= PICTURES_LAYOUT
    charts = [
        {"uuid": key, "metricSectionId": section, "runsCountToCompare": 10, "isGenerated": True}
        | (_picture(key, last_step) if section == "pictures" else _metric(key))
        for section, keys in CHARTS.items()
        for key in keys
    ]
    return {
        "selectedColumns": COLUMNS,
        "compareRunCharts": charts,
        "compareRunSections": sections,
        "isAccordionReordered": True,  # else MLflow sorts the sections by name
    }


def _picture(key: str, last_step: int) -> dict:
    step = last_step if key == "preview" else 0
    # the parameters of a run would push its picture out of sight
    return {"type": "IMAGE", "imageKeys": [key], "step": step, "showRunParams": False}


def _metric(key: str) -> dict:
    return {"type": "BAR", "metricKey": key}  # MLflow turns it into a line where there are steps
