"""The MLflow side: finds or creates experiments and runs, and writes events into them."""

import json
import logging
import os
from pathlib import Path

from filelock import FileLock

from liquidgen.tracking.journal import Event, Header, Journal

# a dead or hung server must cost seconds; by default MLflow tries for minutes
ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "5",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "GIT_PYTHON_REFRESH": "quiet",
}
MENDABLE_STATUS = {401, 403, 408, 429}  # HTTP: log in, be allowed, wait
OUR_ID = "liquidgen.run_id"  # tag of a run that stands for an id which another store, or we, gave


def named_uri() -> str:
    """What MLFLOW_TRACKING_URI says; empty where it is not set."""
    return os.environ.get("MLFLOW_TRACKING_URI", "")


def tracking_uri(root: Path) -> str:
    """Where runs are recorded: MLFLOW_TRACKING_URI, or a database at the checkout's root."""
    return named_uri() or f"sqlite:///{root}/mlflow.db"


def is_refusal(error: Exception) -> bool:
    """Whether the store would refuse the same entry for ever, rather than take it later."""
    from mlflow.exceptions import MlflowException

    if isinstance(error, MlflowException):
        status = error.get_http_status_code()
        return 400 <= status < 500 and status not in MENDABLE_STATUS
    # other OSErrors: requests' failures, no space on the disk
    return isinstance(error, PermissionError) or not isinstance(error, OSError)


class Store:
    """MLflow at one address. Every method may raise whatever MLflow raises."""

    def __init__(self, root: Path):
        for name, value in ENVIRONMENT.items():
            os.environ.setdefault(name, value)
        from mlflow import MlflowClient

        for chatty in ("alembic", "mlflow.store.db.utils", "urllib3.connectionpool"):
            logging.getLogger(chatty).setLevel(logging.CRITICAL)  # we tell of it in one line
        self.uri = tracking_uri(root)
        self._root = root
        with self._alone():
            self.client = MlflowClient(tracking_uri=self.uri)

    def experiment(self, name: str) -> str:
        """Id of an experiment, created (with the database) if need be, restored if deleted."""
        with self._alone():
            found = self.client.get_experiment_by_name(name)
            if found is None:
                ours = (self._root / "mlruns" / name).as_uri()
                location = None if named_uri() else ours
                return self.client.create_experiment(name, artifact_location=location)
            if found.lifecycle_stage == "deleted":
                self.client.restore_experiment(found.experiment_id)
            return found.experiment_id

    def _alone(self) -> FileLock:
        """A lock against other processes: two that create one database at once both fail."""
        path = self._root / "work/tracking/store.lock"
        path.parent.mkdir(parents=True, exist_ok=True)
        return FileLock(path)

    def open(self, header: Header) -> str:
        """MLflow's id of a run, found or created, with its parameters and tags, and running."""
        from mlflow.entities import Param

        experiment = self.experiment(header.experiment)
        tags = dict(header.tags)
        if header.parent:
            tags["mlflow.parentRunId"] = self._find_or_stand_in(header.parent, experiment)
        run = header.run_id and self._find(header.run_id, experiment)
        if not run:
            named = {OUR_ID: header.run_id} if header.run_id else {}
            run = self.client.create_run(experiment, header.start_time, named, header.name)
            header.run_id = header.run_id or run.info.run_id  # known, even if the rest fails
        known = run.data.params
        new = {key: value for key, value in header.params.items() if key not in known}
        for key, value in header.params.items() - known.items() - new.items():
            tags[f"continued.{key}"] = value  # a parameter of an MLflow run never changes
        items = sorted(new.items())
        for first in range(0, len(items), 100):  # MLflow takes 100 at a time
            params = [Param(k, v) for k, v in items[first : first + 100]]
            self.client.log_batch(run.info.run_id, params=params)
        self._set_tags(run.info.run_id, tags)
        # the start of the id tells runs of one name apart, in tables and below curves
        name = f"{run.info.run_id[:4]} {header.name}"
        self.client.update_run(run.info.run_id, status="RUNNING", name=name)
        return run.info.run_id

    def write(self, run: str, events: list[Event], journal: Journal, header: Header) -> None:
        """Write several metrics events, or one of another kind; a file that is gone is passed."""
        event = events[0]
        match event:
            case {"metrics": _}:
                self._write_metrics(run, events)
            case {"parent": metrics, "tags": tags}:
                parent = self._parent(header)
                self._write_metrics(parent, [event | {"metrics": metrics}])
                self._set_tags(parent, tags)
            case {"tags": tags}:
                self._set_tags(run, tags)
            case {"image": name} if (journal.files / name).exists():
                target = self._parent(header) if event["on_parent"] else run
                self._write_image(target, journal.files / name, event)
            case {"artifact": name, "folder": folder} if (journal.files / name).exists():
                self.client.log_artifact(run, str(journal.files / name), folder)
            case {"dataset": name, "digest": digest, "source": source}:
                self._write_dataset(run, name, digest, source)

    def end(self, run: str, status: str, time: int) -> None:
        """Close a run."""
        self.client.set_terminated(run, status, time)

    def _write_metrics(self, run: str, events: list[Event]) -> None:
        from mlflow.entities import Metric

        points = [
            Metric(key, value, event["time"], event["step"])
            for event in events
            for key, value in event["metrics"].items()
        ]
        for first in range(0, len(points), 1000):  # points that are there are not doubled
            self.client.log_batch(run, metrics=points[first : first + 1000])

    def _write_image(self, run: str, path: Path, event: Event) -> None:
        from PIL import Image

        with Image.open(path) as image:
            self.client.log_image(
                run, image, key=event["key"], step=event["step"], timestamp=event["time"]
            )

    def _write_dataset(self, run: str, name: str, digest: str, source: str) -> None:
        from mlflow.entities import Dataset, DatasetInput, InputTag

        dataset = Dataset(name, digest[:36], "local", json.dumps({"uri": source}))
        context = InputTag("mlflow.data.context", "training")
        self.client.log_inputs(run, datasets=[DatasetInput(dataset, [context])])

    def _set_tags(self, run: str, tags: dict[str, str]) -> None:
        from mlflow.entities import RunTag

        items = [RunTag(key, value) for key, value in tags.items()]
        for first in range(0, len(items), 100):
            self.client.log_batch(run, tags=items[first : first + 100])

    def _find(self, run_id: str, experiment: str):
        """The active run of this id, or the one that stands for it, or None."""
        from mlflow.exceptions import MlflowException

        try:
            run = self.client.get_run(run_id)
            if run.info.lifecycle_stage == "active":
                return run
        except MlflowException as error:
            if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                raise
        found = self.client.search_runs([experiment], f"tags.`{OUR_ID}` = '{run_id}'")
        return found[0] if found else None

    def _parent(self, header: Header) -> str:
        return self._find_or_stand_in(header.parent, self.experiment(header.experiment))

    def _find_or_stand_in(self, run_id: str, experiment: str) -> str:
        """MLflow's id of a run that may have been recorded elsewhere, or not yet."""
        run = self._find(run_id, experiment)
        if run is None:
            tags = {OUR_ID: run_id, "stage": "train"}
            name = f"recorded elsewhere ({run_id[:8]})"
            run = self.client.create_run(experiment, tags=tags, run_name=name)
            self.client.set_terminated(run.info.run_id)
        return run.info.run_id
