"""Sends journals to the store: points first, then what may be held back, such as images."""

import logging
from pathlib import Path

from filelock import Timeout

from liquidgen.tracking.address import file_in, reason
from liquidgen.tracking.journal import Event, Journal, State, now
from liquidgen.tracking.own_database import ARTIFACTS, repair_locations
from liquidgen.tracking.rows import RunDeleted
from liquidgen.tracking.store import Store, is_refusal

logger = logging.getLogger("liquidgen.tracking")


def open_store(root: Path) -> Store:
    """Open the store; in a copied or moved checkout, its files are this checkout's from now on."""
    store = Store(root)
    database = file_in(root, store.uri)
    if database and (repaired := repair_locations(database, root)):
        logger.warning(
            "tracking: %s: the images of %d runs were looked for where this checkout was copied or "
            "moved from; now in %s",
            database,
            repaired,
            root / ARTIFACTS,
        )
    return store


def open_in_store(store: Store, journal: Journal, state: State) -> None:
    """Find or create the run in the store; in a run that is new there, all is still to be sent.

    Raises:
        RunDeleted: The run was deleted there.
    """
    mlflow_id = store.open(state.header)
    if mlflow_id != state.mlflow_id or not store.is_at(state.store or ""):
        state.mlflow_id = mlflow_id
        state.offset = 0
        state.waiting = []
    state.store = store.name
    state.ended = state.deleted = False
    journal.save_state(state)


def send_points(store: Store, journal: Journal, state: State) -> None:
    """Send all metrics, and the end, that the store has not received of an open run.

    An event that the store rejects for good is left out. Other events wait for `send_files`.

    Raises:
        RunDeleted: The run or its parent was deleted.
        Exception: Whatever MLflow raises while the store does not answer.
    """
    for events, offset in journal.batches(state.offset):
        match events[0]:
            case {"end": _}:
                # not the end of an earlier part of the run
                if offset == journal.path.stat().st_size:
                    _end(store, journal, state, events[0])
            case {"metrics": _} | {"parent": _}:
                _write(store, journal, state, events)
            case {"time": _}:
                state.waiting.append(state.offset)
        state.offset = offset
        journal.save_state(state)


def send_files(store: Store, journal: Journal, state: State) -> None:
    """Send the events that wait: a store of files that is out of reach holds back nothing else.

    Raises:
        RunDeleted: The run or its parent was deleted.
        Exception: Whatever MLflow raises while the store does not take them.
    """
    while state.waiting:
        _write(store, journal, state, [journal.event_at(state.waiting[0])])
        state.waiting.pop(0)
        journal.save_state(state)


def _write(store: Store, journal: Journal, state: State, events: list[Event]) -> None:
    """Write events, except those that MLflow rejects."""
    try:
        store.write(state.opened_id, events, journal, state.header)
    except Exception as error:
        _check_refusal(error, store, state)
        if len(events) == 1:
            journal.rejected[reason(error)] += 1
            return
        for event in events:
            _write(store, journal, state, [event])


def _end(store: Store, journal: Journal, state: State, event: Event) -> None:
    """Set the final status of the run."""
    try:
        store.end(state.opened_id, event)
    except Exception as error:
        _check_refusal(error, store, state)
        journal.rejected[reason(error)] += 1
    state.ended = True


def _check_refusal(error: Exception, store: Store, state: State) -> None:
    """Raise an error again unless it is a refusal of MLflow for an entry alone.

    Raises:
        RunDeleted: It is one because the run was deleted.
    """
    if not is_refusal(error):
        raise error
    store.rows.check_active(state.opened_id)


def leave_alone(root: Path, journal: Journal, state: State, error: RunDeleted) -> None:
    """Send no more of a run that was deleted, or whose parent was; told once in a checkout."""
    state.deleted = True
    journal.save_state(state)
    told = root / "work/tracking/deleted"
    told.parent.mkdir(parents=True, exist_ok=True)
    with open(told, "a+") as file:
        file.seek(0)
        if error.run_id in file.read().split():
            return
        file.write(f"{error.run_id}\n")
    logger.warning(
        "tracking: run %r was deleted in MLflow, and nothing more is recorded with it; restore it "
        "there to record again",
        str(error),
    )


def report_rejected(journal: Journal) -> None:
    """Say once how many entries of a run MLflow rejected."""
    if journal.rejected:
        count, first = journal.rejected.total(), next(iter(journal.rejected))
        logger.warning(
            "tracking: MLflow rejected entries of %s, %d are left out; the first: %s",
            journal.path,
            count,
            first,
        )
        journal.rejected.clear()


def replay(store: Store, root: Path) -> None:
    """Send what the store has not received of ended or killed runs of this checkout.

    Raises:
        Exception: What MLflow raised last, after all runs were tried.
    """
    failure = None
    for path in sorted((root / "work").glob("**/metrics.jsonl")):
        journal = Journal(path)
        if not journal.has_state:
            continue
        try:
            with journal.lock.acquire(timeout=0):
                _replay(store, journal, root)
        except (Timeout, FileNotFoundError):  # active in another process, or just removed by it
            continue
        except Exception as error:
            failure = error
        report_rejected(journal)
    if failure:
        raise failure


def _replay(store: Store, journal: Journal, root: Path) -> None:
    state = journal.read_state()
    if state is None or not journal.is_pending(state):
        return
    if state.store and not store.is_at(state.store):
        return
    journal.truncate_partial_line()
    try:
        _send_all(store, journal, state)
    except RunDeleted as error:
        leave_alone(root, journal, state, error)
    if not state.keep:
        journal.remove()


def _send_all(store: Store, journal: Journal, state: State) -> None:
    if not state.ended or state.offset < journal.path.stat().st_size:
        open_in_store(store, journal, state)
        send_points(store, journal, state)
    if not state.ended:  # the process was killed before it could record an end
        _end(store, journal, state, {"end": "KILLED", "time": now()})
        journal.save_state(state)
    send_files(store, journal, state)
