"""MLflow client: opens runs, and writes events to them."""

import json
import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING

from liquidgen.config.changes import is_later_setting
from liquidgen.tracking import own_database
from liquidgen.tracking.address import (
    file_in,
    is_database,
    sqlite_file,
    stored,
    tracking_uri,
)
from liquidgen.tracking.answers import bound_answers
from liquidgen.tracking.journal import Event, Header, Journal
from liquidgen.tracking.rows import DVC_TAG, ERROR_TAG, PARENT_TAG, Rows, store_lock

if TYPE_CHECKING:
    from PIL.Image import Image

# a server that does not answer must cost seconds; by default MLflow retries for minutes, and waits
# for as long as the server asks
ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "5",
    "MLFLOW_HTTP_RESPECT_RETRY_AFTER_HEADER": "false",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "GIT_PYTHON_REFRESH": "quiet",
}
# MLflow's words for an entry that it will never take
FINAL_CODES = {
    "BAD_REQUEST",
    "INVALID_PARAMETER_VALUE",
    "INVALID_STATE",
    "RESOURCE_ALREADY_EXISTS",
    "RESOURCE_DOES_NOT_EXIST",
}
CREATION_TIMEOUT_SECONDS = 120.0  # to wait for another process that makes the database
MAX_TAGS = 100  # per request, as for metrics: limits of MLflow
MAX_METRICS = 1000


def is_refusal(error: Exception) -> bool:
    """Return whether MLflow would reject the same entry again, so that a retry is useless.

    A proxy in front of a server that restarts answers with the same HTTP status codes: only what
    MLflow says itself is final.
    """
    from mlflow.exceptions import MlflowException, RestException

    if isinstance(error, RestException):
        return error.json.get("error_code") in FINAL_CODES
    if isinstance(error, MlflowException):
        # of its own, MLflow's client says BAD_REQUEST only of an answer that is not MLflow's
        return error.error_code in FINAL_CODES - {"BAD_REQUEST"}
    return isinstance(error, DamagedImage)


class DamagedImage(Exception):
    """The file of an image that was logged cannot be read."""


def prepare(root: Path) -> None:
    """Do what takes seconds whether or not the store answers: import MLflow, make a new database.

    Raises:
        Exception: The database cannot be made.
    """
    prepare_mlflow()
    from mlflow import MlflowClient  # noqa: F401

    if is_database(tracking_uri(root)):
        import mlflow.store.tracking.sqlalchemy_store  # noqa: F401

    bound_answers()
    path = file_in(root, tracking_uri(root))
    if path and not path.exists():
        with store_lock(root, CREATION_TIMEOUT_SECONDS):
            if not path.exists():
                own_database.create(path, root)


def prepare_mlflow() -> None:
    """Set what MLflow reads when it is imported, and keep it from printing what callers say."""
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    for name in ("alembic", "mlflow.exceptions", "mlflow.store.db.utils", "urllib3.connectionpool"):
        logging.getLogger(name).setLevel(logging.CRITICAL)


class Store:
    """MLflow at one tracking URI. Every method may raise whatever MLflow raises.

    Attributes:
        uri: The tracking URI as MLflow opens it, with its secrets.
        name: The store as it may be stored.
        client: The MLflow client.
        rows: Experiments and runs of this checkout.
        answers: Number of entries that the store has taken: whether it makes progress.
    """

    def __init__(self, root: Path) -> None:
        self.uri = tracking_uri(root)
        self.name = stored(root, self.uri)
        self.answers = 0
        self._root = root
        prepare(root)
        from mlflow import MlflowClient

        if database := sqlite_file(self.uri):
            if database.exists():
                own_database.check(database)  # MLflow would try to open it for minutes
            self.uri = own_database.opened_by(self.uri)
        with store_lock(root):
            self.client = MlflowClient(tracking_uri=self.uri)
        self.rows = Rows(
            self.client,
            root,
            keeps_files=is_database(self.uri),
            is_shared=file_in(root, self.uri) is None,
        )

    def is_at(self, address: str) -> bool:
        """Return whether an address is this store's, also of an earlier version."""
        return stored(self._root, address) == self.name

    def open(self, header: Header) -> str:
        """Find or create a run, set its parameters, tags and status; return MLflow's id of it.

        Raises:
            RunDeleted: The run or its parent was deleted.
        """
        experiment = self.rows.experiment(header.experiment)
        tags = dict(header.tags)
        if header.parent:
            tags[PARENT_TAG] = self.rows.row(header, experiment, claim=False)
        run = self.rows.find(header.run_id, experiment)
        if run is None:
            run = self.rows.create(header, experiment)
        elif not header.parent and any(is_later_setting(key) for key in run.data.params):
            tags.pop(DVC_TAG, None)  # its scores belong to the experiment that it names
        known = run.data.params
        new = {key: value for key, value in header.params.items() if key not in known}
        for key, value in header.params.items() - known.items() - new.items():
            tags[f"continued.{key}"] = value  # a parameter of an MLflow run never changes
        self.rows.log_params(run.info.run_id, new)
        self._set_tags(run.info.run_id, tags)
        self.rows.resume(run, header, experiment)
        self.answers += 1
        return run.info.run_id

    def write(self, run: str, events: list[Event], journal: Journal, header: Header) -> None:
        """Write several metrics events, or one event of another kind; skip files that are gone.

        Raises:
            RunDeleted: The parent run was deleted.
            DamagedImage: The image cannot be read.
        """
        event = events[0]
        match event:
            case {"metrics": _}:
                self._write_metrics(run, events)
            case {"parent": metrics}:
                self._write_metrics(self._row(run, header), [event | {"metrics": metrics}])
            case {"image": name} if (journal.files / name).exists():
                target = self._row(run, header) if event["on_parent"] else run
                self._write_image(target, journal.files / name, event, header)
                if event["on_parent"]:
                    self.rows.show_in_description(target, event["key"])
            case {"artifact": name} if (journal.files / name).exists():
                self.client.log_artifact(run, str(journal.files / name))
            case {"dataset": name, "digest": digest, "source": source}:
                self._write_dataset(run, name, digest, source)
        self.answers += 1

    def end(self, run: str, event: Event) -> None:
        """Set the final status of a run, and the reason of a failure."""
        if event.get("reason"):
            self.client.set_tag(run, ERROR_TAG, event["reason"])
        self.client.set_terminated(run, event["end"], event["time"])
        self.answers += 1

    def _row(self, run: str, header: Header) -> str:
        """Return MLflow's id of the row that shows the run, and place the run below it."""
        row = self.rows.row(header, self.rows.experiment(header.experiment), claim=True)
        self._set_tags(run, {PARENT_TAG: row})
        return row

    def _write_metrics(self, run: str, events: list[Event]) -> None:
        from mlflow.entities import Metric

        points = [
            Metric(key, value, event["time"], event["step"])
            for event in events
            for key, value in event["metrics"].items()
        ]
        for first in range(0, len(points), MAX_METRICS):  # MLflow ignores points that it has
            self.client.log_batch(run, metrics=points[first : first + MAX_METRICS])

    def _write_image(self, run: str, path: Path, event: Event, header: Header) -> None:
        step = event["step"]
        if header.last_step:  # an image chart shows one step of all runs
            step = round(100 * step / header.last_step)
        self.client.log_image(
            run, _read_image(path), key=event["key"], step=step, timestamp=event["time"]
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


def _read_image(path: Path) -> "Image":
    from PIL import Image

    try:
        with Image.open(path) as image:
            image.load()
            return image.copy()
    except (OSError, SyntaxError, ValueError) as error:
        raise DamagedImage(f"{path}: {error}") from error
