"""Rows of MLflow's table: experiments and runs of a checkout, found or created."""

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock

from liquidgen.config.changes import is_later_setting, with_current_names
from liquidgen.tracking import labels
from liquidgen.tracking.journal import Header
from liquidgen.tracking.labels import DESCRIPTION_TAG, DVC_TAG, LATER_TAG
from liquidgen.tracking.own_database import artifact_location, is_elsewhere

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

# tag with the id that a run was opened with, which is here before MLflow gives it another
EXTERNAL_ID_TAG = "liquidgen.run_id"
# tag of a row with other settings of sample or evaluate: MLflow's id of the run of the training
TRAINING_TAG = "liquidgen.training"
ERROR_TAG = "error"  # why a run failed
PARENT_TAG = "mlflow.parentRunId"
MAX_PARAMS = 100  # per request: a limit of MLflow
LOCK_TIMEOUT_SECONDS = 10.0  # to wait for another process, which may wait for MLflow itself
# what MLflow says of an id that no run has; with passwords, to all but an admin, it is the last
UNKNOWN = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE", "PERMISSION_DENIED")


class RunDeleted(Exception):
    """The run was deleted in MLflow.

    Attributes:
        run_id: MLflow's id of it.
    """

    def __init__(self, run_id: str, name: str = "") -> None:
        super().__init__(name or run_id)
        self.run_id = run_id


def store_lock(root: Path, timeout: float = LOCK_TIMEOUT_SECONDS) -> FileLock:
    """Return a lock against other processes: two that create one thing at a time both fail."""
    path = root / "work/tracking/store.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    return FileLock(path, timeout=timeout)


class Rows:
    """Experiments and runs of a checkout in a store. Every method may raise what MLflow raises."""

    def __init__(
        self, client: "MlflowClient", root: Path, *, keeps_files: bool, is_shared: bool
    ) -> None:
        """Use a client.

        Args:
            client: The client.
            root: Root of the checkout.
            keeps_files: Whether the checkout has the files of its runs: there is no server for it.
            is_shared: Whether other checkouts may use the same database.
        """
        self._client = client
        self._root = root
        self._keeps_files = keeps_files
        self._keeps_apart = keeps_files and is_shared
        # not while a server is asked, which may never answer
        self._lock: AbstractContextManager = store_lock(root) if keeps_files else nullcontext()

    def experiment(self, name: str) -> str:
        """Return the id of an experiment; create it if it is missing, restore it if deleted.

        If the files of its runs lie in another checkout, that one's path is not this one's, and
        neither is the experiment: this checkout has one with its path behind the name.
        """
        with self._lock:
            found = self._client.get_experiment_by_name(name)
            if found and self._keeps_apart and is_elsewhere(found.artifact_location, self._root):
                name = f"{name} ({self._root})"
                found = self._client.get_experiment_by_name(name)
            if found is None:
                location = artifact_location(self._root, name) if self._keeps_files else None
                return self._create_experiment(name, location)
            if found.lifecycle_stage == "deleted":
                self._restore(found.experiment_id)
            return found.experiment_id

    def _create_experiment(self, name: str, location: str | None) -> str:
        from mlflow.exceptions import MlflowException

        try:
            return self._client.create_experiment(name, artifact_location=location)
        except MlflowException as error:
            created = self._client.get_experiment_by_name(name)
            if created is None or error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
            return created.experiment_id  # by another process

    def _restore(self, experiment: str) -> None:
        """Restore a deleted experiment; its runs stay deleted.

        MLflow restores them all, also those that were deleted one by one before.
        """
        runs = self._search(experiment)
        self._client.restore_experiment(experiment)
        for run in runs:
            self._client.delete_run(run.info.run_id)

    def _search(self, experiment: str, query: str = "") -> list["Run"]:
        """Find active and deleted runs, the active ones first."""
        from mlflow.entities import ViewType

        found: list[Run] = []
        token = None
        while True:
            page = self._client.search_runs([experiment], query, ViewType.ALL, page_token=token)
            found += page
            token = page.token
            if not token:
                return sorted(found, key=_is_deleted)

    def find(self, run_id: str, experiment: str) -> "Run | None":
        """Find the run that has this id, in MLflow or as its tag.

        Raises:
            RunDeleted: It was deleted.
        """
        from mlflow.exceptions import MlflowException

        found = []
        try:
            found.append(self._client.get_run(run_id))
        except MlflowException as error:
            if error.error_code not in UNKNOWN:
                raise
        if not found or _is_deleted(found[0]):
            found += self._search(experiment, f"tags.`{EXTERNAL_ID_TAG}` = '{run_id}'")
        if self._keeps_apart:
            found = [run for run in found if not is_elsewhere(run.info.artifact_uri, self._root)]
        found.sort(key=_is_deleted)
        if found and _is_deleted(found[0]):
            raise RunDeleted(found[0].info.run_id, found[0].info.run_name)
        return found[0] if found else None

    def check_active(self, run: str) -> None:
        """Check that a run which was opened still exists.

        Raises:
            RunDeleted: It was deleted.
        """
        from mlflow.exceptions import MlflowException

        try:
            found = self._client.get_run(run)
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                raise RunDeleted(run) from error
            raise
        if _is_deleted(found):
            raise RunDeleted(run, found.info.run_name)

    def row(self, header: Header, experiment: str, *, claim: bool) -> str:
        """Return MLflow's id of the row that shows a run of sample or evaluate.

        A row is a training with its settings of sample and evaluate, in one experiment of DVC. The
        first ones are recorded with the run of the training; any others get a row of their own.

        Args:
            header: The run of sample or evaluate.
            experiment: Id of the experiment.
            claim: Whether the row is about to show something of the run: it gets the settings, and
                is created if it is missing. Otherwise the best row that exists is returned.

        Raises:
            RunDeleted: The training or the row was deleted.
        """
        if header.parent is None:
            raise ValueError("the run has no parent")
        training = self._find_or_create_placeholder(header.parent, experiment)
        with self._lock:
            rows = [training, *self._others(training, experiment)]
            row = next((row for row in rows if _fits(row, header)), None)
            if row and _is_deleted(row):
                raise RunDeleted(row.info.run_id, row.info.run_name)
            if not claim:
                return (row or training).info.run_id
            row = row or self._create_other(training, header)
            known = row.data.params
            settings = header.later_settings.items()
            self.log_params(row.info.run_id, {k: v for k, v in settings if k not in known})
            if row is training and not any(is_later_setting(key) for key in known):
                self._extend_name(row, header.later)
            if DVC_TAG in header.tags:
                self._client.set_tag(row.info.run_id, DVC_TAG, header.tags[DVC_TAG])
            return row.info.run_id

    def show_in_description(self, run: str, key: str) -> None:
        """Show the newest image of a series in the description of a run."""
        images = [file.path for file in self._client.list_artifacts(run, "images")]
        text = self._client.get_run(run).data.tags.get(DESCRIPTION_TAG, "")
        self._client.set_tag(run, DESCRIPTION_TAG, labels.with_image(text, run, key, images))

    def log_params(self, run: str, params: dict[str, str]) -> None:
        """Log parameters that a run does not have yet."""
        from mlflow.entities import Param

        items = sorted(params.items())
        for first in range(0, len(items), MAX_PARAMS):
            batch = [Param(key, value) for key, value in items[first : first + MAX_PARAMS]]
            self._client.log_batch(run, params=batch)

    def create(self, header: Header, experiment: str, **tags: str) -> "Run":
        """Create a run with its name and description."""
        tags[EXTERNAL_ID_TAG] = header.run_id
        if header.description:
            tags[DESCRIPTION_TAG] = header.description
        with self._lock:
            name = self._free_name(header.name, experiment)
            return self._client.create_run(experiment, header.start_time, tags, name)

    def resume(self, run: "Run", header: Header, experiment: str) -> None:
        """Let a run go on; its name stays, which the user may have changed.

        One that was recorded elsewhere has neither name nor description yet.
        """
        name = None
        if run.info.run_name == labels.placeholder(header.run_id):
            name = self._free_name(header.name, experiment)
            images = run.data.tags.get(DESCRIPTION_TAG, "")
            text = f"{header.description}\n\n{images}".strip()
            self._client.set_tag(run.info.run_id, DESCRIPTION_TAG, text)
        if ERROR_TAG in run.data.tags:
            self._client.delete_tag(run.info.run_id, ERROR_TAG)
        self._client.update_run(run.info.run_id, status="RUNNING", name=name)

    def _others(self, training: "Run", experiment: str) -> list["Run"]:
        """Find the other rows of a training, also deleted ones."""
        return self._search(experiment, f"tags.`{TRAINING_TAG}` = '{training.info.run_id}'")

    def _create_other(self, training: "Run", header: Header) -> "Run":
        """Create a row for other settings of a training, with the training's results."""
        info, params = training.info, training.data.params
        tags = {TRAINING_TAG: info.run_id, "stage": "train"}
        tags[DESCRIPTION_TAG] = labels.description_of_other(training, header)
        name = self._free_name(labels.name_of_other(training, header), info.experiment_id)
        row = self._client.create_run(info.experiment_id, header.start_time, tags, name)
        self.log_params(
            row.info.run_id, {k: v for k, v in params.items() if not is_later_setting(k)}
        )
        self._client.log_batch(row.info.run_id, metrics=labels.results(training))
        self._client.set_terminated(row.info.run_id)
        return row

    def _extend_name(self, training: "Run", later: str) -> None:
        """Add to a training's name what its first sampling and evaluation change."""
        if later:
            run = training.info.run_id
            self._client.update_run(run, name=f"{training.info.run_name} {later}")
            self._client.set_tag(run, LATER_TAG, later)

    def _free_name(self, name: str, experiment: str) -> str:
        """Return a name that no run of the experiment has: this one, or one with a number."""
        name = name.replace('"', "'")  # a filter has no escapes
        found = self._search(experiment, f'attributes.run_name LIKE "{name}%"')
        return labels.free_name(name, {run.info.run_name for run in found})

    def _find_or_create_placeholder(self, run_id: str, experiment: str) -> "Run":
        """Find a run; create a placeholder if the run was recorded elsewhere."""
        with self._lock:
            run = self.find(run_id, experiment)
            if run is None:
                tags = {EXTERNAL_ID_TAG: run_id, "stage": "train"}
                name = labels.placeholder(run_id)
                run = self._client.create_run(experiment, tags=tags, run_name=name)
                self._client.set_terminated(run.info.run_id)
            return run


def _is_deleted(run: "Run") -> bool:
    return run.info.lifecycle_stage == "deleted"


def _fits(row: "Run", header: Header) -> bool:
    """Return whether a row has the settings and the DVC experiment of a run, or none yet."""
    params = with_current_names(row.data.params)
    if not any(is_later_setting(key) for key in params):
        return True
    is_same = all(params.get(key, value) == value for key, value in header.later_settings.items())
    experiment = header.tags.get(DVC_TAG)
    return is_same and experiment in (None, row.data.tags.get(DVC_TAG))
