"""Opens and closes the run of a stage."""

import logging
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import Timeout

from liquidgen.config.changes import Changes, experiment, git, is_later_setting
from liquidgen.tracking.address import reason
from liquidgen.tracking.journal import Header, Journal, State, now, series_in
from liquidgen.tracking.relay import Relay
from liquidgen.tracking.run import NullRun, Run
from liquidgen.utils.errors import UserError

logger = logging.getLogger("liquidgen.tracking")

DATA_STAGES = ("download", "encode")
MAX_VALUE_LENGTH = 5000  # characters of a parameter or tag; MLflow rejects longer ones
LOCK_TIMEOUT_SECONDS = 30.0  # to wait for another process that is just sending the journal


@contextmanager
def open_run(
    root: Path,
    experiment: str,
    stage: str,
    *,
    name: str,
    params: dict[str, Any],
    changes: Changes | None = None,
    parent: str | None = None,
    resume: str | None = None,
    journal: Path | None = None,
    earlier: Iterable[Path] = (),
    start_step: int = 0,
    last_step: int | None = None,
    enabled: bool = True,
) -> Iterator[Run]:
    """Record a stage as a run; failures of MLflow are warnings.

    Args:
        root: Root of the checkout (not of a temporary workspace of DVC): it holds the default
            store, and `work/`.
        experiment: Name of the MLflow experiment; download and encode use `<experiment>-data`.
        stage: Name of the stage.
        name: Name of the run.
        params: Parameters by full path, such as `train.seed`. Those of sample and evaluate are
            recorded only if there is a parent.
        changes: What the settings change; the description of the run shows it.
        parent: Run id of the training run that the run belongs to, from run.json.
        resume: Run id to continue or, if there is no such run, to begin with. A run that is in
            `journal` already is continued in any case.
        journal: Path of the run's journal; by default a temporary one below `work/tracking`.
        earlier: Journals of other runs of the same training.
        start_step: Step at which the work continues; history that the run lacks up to this step is
            copied from `earlier`.
        last_step: Last step of a training: previews are shown at their percentage of it, at which
            trainings of any length compare.
        enabled: Whether the run is recorded; False on ranks > 0, where nothing is opened.

    Yields:
        The run to log to.

    Raises:
        UserError: Another process records into `journal`.
        OSError: The journal cannot be written.
    """
    if not enabled:
        yield NullRun()
        return
    recorded = {k: as_text(v) for k, v in params.items() if parent or not is_later_setting(k)}
    header = Header(
        run_id=resume or uuid.uuid4().hex,  # at once: the store may not answer
        experiment=f"{experiment}-data" if stage in DATA_STAGES else experiment,
        name=name,
        params=recorded,
        tags=_source_tags(stage),
        parent=parent,
        description=changes.description() if changes else "",
        later=changes.later if changes else "",
        last_step=last_step,
        start_time=now(),
    )
    record = _lock(journal or root / "work/tracking" / uuid.uuid4().hex / "metrics.jsonl")
    try:
        state = _resumed_state(record, header) or State(header=header, keep=journal is not None)
        _inherit(record, [Journal(path) for path in earlier if path != record.path], start_step)
        relay = Relay(root, record, state)
        relay.open()
        run = Run(record, state)
        with _closing(record, state, relay):
            yield run
    finally:
        record.lock.release()


def _lock(path: Path) -> Journal:
    """Create a journal if needed, and lock it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    journal = Journal(path)
    try:
        journal.lock.acquire(timeout=LOCK_TIMEOUT_SECONDS)
    except Timeout:
        raise UserError(f"{path}: another process records into it; wait or stop it") from None
    return journal


def _resumed_state(journal: Journal, header: Header) -> State | None:
    """Return the state of the journal's run, with the new header; None if there is no such run."""
    journal.truncate_partial_line()
    state = journal.read_state()
    if state:
        known_ids = (state.mlflow_id, state.header.run_id)
        if header.run_id not in known_ids:
            header.run_id = state.mlflow_id or state.header.run_id
        header.start_time = state.header.start_time  # the store may not have the run yet
        state.header = header
        state.deleted = False  # it may have been restored
    return state


def _inherit(journal: Journal, earlier: Iterable[Journal], until: int) -> None:
    """Add metrics and images that only earlier runs have; images whose files are gone are skipped.

    Args:
        journal: The run that is about to continue.
        earlier: Journals of other runs of the same training.
        until: Last step that is copied, the one at which the run continues.

    Raises:
        OSError: The journal cannot be written.
    """
    last_steps = journal.last_steps()
    copied = []
    for other in earlier:
        for event, _ in other.events():
            step = event.get("step", 0)
            missing = {key: step for key in series_in(event) if last_steps.get(key, -1) < step}
            if not missing or step > until:
                continue
            if "image" in event:
                image = other.files / event["image"]
                if image.exists():
                    journal.save_file(image.name, image.read_bytes())
            else:
                event["metrics"] = {key: event["metrics"][key] for key in missing}
            last_steps |= missing
            copied.append(event)
    if copied:
        journal.append(*copied)


@contextmanager
def _closing(journal: Journal, state: State, relay: Relay) -> Iterator[None]:
    """Record how the run ended, and send the remaining events."""
    end = {"end": "KILLED"}  # on KeyboardInterrupt and SystemExit: stopped, not failed
    try:
        yield
        end = {"end": "FINISHED"}
    except Exception as error:
        end = {"end": "FAILED", "reason": reason(error)}
        raise
    finally:
        journal.try_append(end)
        try:
            if relay.close() and not state.keep:
                journal.remove()
        except OSError as error:  # its files are gone: no reason to fail a finished stage
            logger.warning("tracking: the record is incomplete: %s", error)


def as_text(value: Any) -> str:
    """Return a parameter as MLflow has it."""
    return str(value)[:MAX_VALUE_LENGTH]


def _source_tags(stage: str) -> dict[str, str]:
    """Return tags of the code that a stage was started from, and of its DVC experiment."""
    tags = {
        "stage": stage,
        "mlflow.source.name": f"stages/{stage}.py",
        "mlflow.source.type": "LOCAL",
        "dvc.experiment": experiment(),
        "mlflow.source.git.commit": _git_commit(),
    }
    return {key: value for key, value in tags.items() if value}


def _git_commit() -> str:
    return git("rev-parse", "HEAD").decode().strip() if Path(".git").exists() else ""
