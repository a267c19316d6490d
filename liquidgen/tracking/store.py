"""MLflow client: finds or creates experiments and runs, and writes events to them."""

import json
import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock

from liquidgen.tracking.journal import Event, Header, Journal

if TYPE_CHECKING:
    from mlflow.entities import Run

# a server that does not answer must cost seconds; by default MLflow retries for minutes
ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "5",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "GIT_PYTHON_REFRESH": "quiet",
}
# HTTP status codes that are not final: unauthorized, forbidden, timeout, too many requests
RETRYABLE_STATUS = {401, 403, 408, 429}
# tag of a run whose id was assigned elsewhere: by another store, or here while MLflow was down
EXTERNAL_ID_TAG = "liquidgen.run_id"
MAX_PARAMS = 100  # per request, as for tags and metrics: limits of MLflow
MAX_TAGS = 100
MAX_METRICS = 1000


def named_uri() -> str:
    """Return MLFLOW_TRACKING_URI; empty if it is not set."""
    return os.environ.get("MLFLOW_TRACKING_URI", "")


def tracking_uri(root: Path) -> str:
    """Return MLFLOW_TRACKING_URI or, if it is not set, a database in the root of the checkout."""
    return named_uri() or f"sqlite:///{root}/mlflow.db"


def is_refusal(error: Exception) -> bool:
    """Return whether MLflow would reject the same entry again, so that a retry is useless."""
    from mlflow.exceptions import MlflowException

    if isinstance(error, MlflowException):
        status = error.get_http_status_code()
        return 400 <= status < 500 and status not in RETRYABLE_STATUS
    # other OSErrors can pass: failed requests, no space left on the disk
    return isinstance(error, PermissionError) or not isinstance(error, OSError)


class Store:
    """MLflow at one tracking URI. Every method may raise whatever MLflow raises.

    Attributes:
        uri: The tracking URI.
        client: The MLflow client.
    """

    def __init__(self, root: Path) -> None:
        for name, value in ENVIRONMENT.items():
            os.environ.setdefault(name, value)
        from mlflow import MlflowClient

        # their errors become one warning of `Relay`
        for name in ("alembic", "mlflow.store.db.utils", "urllib3.connectionpool"):
            logging.getLogger(name).setLevel(logging.CRITICAL)
        self.uri = tracking_uri(root)
        self._root = root
        with self._database_lock():
            self.client = MlflowClient(tracking_uri=self.uri)

    def experiment(self, name: str) -> str:
        """Return the id of an experiment; create it if it is missing, restore it if deleted."""
        with self._database_lock():
            found = self.client.get_experiment_by_name(name)
            if found is None:
                local = (self._root / "mlruns" / name).as_uri()
                location = None if named_uri() else local
                return self.client.create_experiment(name, artifact_location=location)
            if found.lifecycle_stage == "deleted":
                self.client.restore_experiment(found.experiment_id)
            return found.experiment_id

    def _database_lock(self) -> FileLock:
        """Lock against other processes: two that create one database at a time both fail."""
        path = self._root / "work/tracking/store.lock"
        path.parent.mkdir(parents=True, exist_ok=True)
        return FileLock(path)

    def open(self, header: Header) -> str:
        """Find or create a run, set its parameters, tags and status; return MLflow's id of it."""
        from mlflow.entities import Param

        experiment = self.experiment(header.experiment)
        tags = dict(header.tags)
        if header.parent:
            tags["mlflow.parentRunId"] = self._find_or_create_placeholder(header.parent, experiment)
        run = header.run_id and self._find(header.run_id, experiment)
        if not run:
            id_tag = {EXTERNAL_ID_TAG: header.run_id} if header.run_id else {}
            run = self.client.create_run(experiment, header.start_time, id_tag, header.name)
            header.run_id = header.run_id or run.info.run_id  # now, in case the rest fails
        known = run.data.params
        new = {key: value for key, value in header.params.items() if key not in known}
        for key, value in header.params.items() - known.items() - new.items():
            tags[f"continued.{key}"] = value  # a parameter of an MLflow run never changes
        items = sorted(new.items())
        for first in range(0, len(items), MAX_PARAMS):
            params = [Param(k, v) for k, v in items[first : first + MAX_PARAMS]]
            self.client.log_batch(run.info.run_id, params=params)
        self._set_tags(run.info.run_id, tags)
        # the start of the id distinguishes runs of one name in tables and legends
        name = f"{run.info.run_id[:4]} {header.name}"
        self.client.update_run(run.info.run_id, status="RUNNING", name=name)
        return run.info.run_id

    def write(self, run: str, events: list[Event], journal: Journal, header: Header) -> None:
        """Write several metrics events, or one event of another kind; skip files that are gone."""
        event = events[0]
        match event:
            case {"metrics": _}:
                self._write_metrics(run, events)
            case {"parent": metrics, "tags": tags}:
                parent = self._parent(header)
                self._write_metrics(parent, [event | {"metrics": metrics}])
                self._set_tags(parent, tags)
            case {"image": name} if (journal.files / name).exists():
                target = self._parent(header) if event["on_parent"] else run
                self._write_image(target, journal.files / name, event)
            case {"artifact": name} if (journal.files / name).exists():
                self.client.log_artifact(run, str(journal.files / name))
            case {"dataset": name, "digest": digest, "source": source}:
                self._write_dataset(run, name, digest, source)

    def end(self, run: str, status: str, time: int) -> None:
        """Set the final status of a run."""
        self.client.set_terminated(run, status, time)

    def _write_metrics(self, run: str, events: list[Event]) -> None:
        from mlflow.entities import Metric

        points = [
            Metric(key, value, event["time"], event["step"])
            for event in events
            for key, value in event["metrics"].items()
        ]
        for first in range(0, len(points), MAX_METRICS):  # MLflow ignores points that it has
            self.client.log_batch(run, metrics=points[first : first + MAX_METRICS])

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
        for first in range(0, len(items), MAX_TAGS):
            self.client.log_batch(run, tags=items[first : first + MAX_TAGS])

    def _find(self, run_id: str, experiment: str) -> "Run | None":
        """Find the run that has this id, in MLflow or as its tag, and is not deleted."""
        from mlflow.exceptions import MlflowException

        try:
            run = self.client.get_run(run_id)
            if run.info.lifecycle_stage == "active":
                return run
        except MlflowException as error:
            if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                raise
        found = self.client.search_runs([experiment], f"tags.`{EXTERNAL_ID_TAG}` = '{run_id}'")
        return found[0] if found else None

    def _parent(self, header: Header) -> str:
        """Return MLflow's id of the parent run."""
        if header.parent is None:
            raise ValueError("the run has no parent")
        return self._find_or_create_placeholder(header.parent, self.experiment(header.experiment))

    def _find_or_create_placeholder(self, run_id: str, experiment: str) -> str:
        """Return MLflow's id of a run; create a placeholder if the run was recorded elsewhere."""
        run = self._find(run_id, experiment)
        if run is None:
            tags = {EXTERNAL_ID_TAG: run_id, "stage": "train"}
            name = f"recorded elsewhere ({run_id[:8]})"
            run = self.client.create_run(experiment, tags=tags, run_name=name)
            self.client.set_terminated(run.info.run_id)
        return run.info.run_id
