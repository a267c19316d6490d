"""Sends journals to the store, in the background while a run is active."""

import contextlib
import logging
import threading
import time
import uuid
from collections.abc import Callable
from pathlib import Path

from filelock import Timeout

from liquidgen.tracking.journal import Event, Journal, State, now
from liquidgen.tracking.store import Store, is_refusal, tracking_uri

logger = logging.getLogger("liquidgen.tracking")

SEND_INTERVAL_SECONDS = 2.0
RETRY_INTERVAL_SECONDS = 30.0  # while the store does not answer
CLOSE_TIMEOUT_SECONDS = 10.0  # for the last attempt, at the end of a run


def open_in_store(store: Store, journal: Journal, state: State) -> None:
    """Find or create the run in the store; in a run that is new there, all is still to be sent."""
    mlflow_id = store.open(state.header)
    if (store.uri, mlflow_id) != (state.store, state.mlflow_id):
        state.store = store.uri
        state.mlflow_id = mlflow_id
        state.offset = 0
    state.ended = False
    journal.save_state(state)


def send(store: Store, journal: Journal, state: State) -> None:
    """Send all events that the store has not received of an open run.

    An event that the store rejects for good is left out with a warning.

    Raises:
        Exception: Whatever MLflow raises while the store does not answer.
    """
    for events, offset in journal.batches(state.offset):
        if "end" not in events[0]:
            _write(store, journal, state, events)
        elif offset == journal.path.stat().st_size:  # not the end of an earlier part of the run
            store.end(state.opened_id, events[0]["end"], events[0]["time"])
            state.ended = True
        state.offset = offset
        journal.save_state(state)


def _write(store: Store, journal: Journal, state: State, events: list[Event]) -> None:
    """Write events, except those that MLflow rejects."""
    try:
        store.write(state.opened_id, events, journal, state.header)
    except Exception as error:
        if not is_refusal(error):
            raise
        if len(events) == 1:
            logger.warning("tracking: MLflow rejected an entry, it is left out: %s", error)
            return
        for event in events:
            _write(store, journal, state, [event])


def replay(store: Store, root: Path) -> None:
    """Send what the store has not received of ended or killed runs of this checkout.

    Raises:
        Exception: Whatever MLflow raises while the store does not answer.
    """
    for path in sorted((root / "work").glob("**/metrics.jsonl")):
        journal = Journal(path)
        if not journal.has_state:
            continue
        # active in another process, or just removed by it
        active_elsewhere = contextlib.suppress(Timeout, FileNotFoundError)
        with active_elsewhere, journal.lock.acquire(timeout=0):
            _replay(store, journal)


def _replay(store: Store, journal: Journal) -> None:
    state = journal.read_state()
    if state is None or state.store not in (None, store.uri) or not journal.is_pending(state):
        return
    journal.truncate_partial_line()
    open_in_store(store, journal, state)
    send(store, journal, state)
    if not state.ended:  # the process was killed before it could record an end
        store.end(state.opened_id, "KILLED", now())
        state.ended = True
        journal.save_state(state)
    if not state.keep:
        journal.remove()


class Relay(threading.Thread):
    """Daemon thread that sends a growing journal; failures of MLflow become one warning."""

    def __init__(self, root: Path, journal: Journal, state: State) -> None:
        super().__init__(name="tracking", daemon=True)
        self._root = root
        self._journal = journal
        self._state = state
        self._store: Store | None = None
        self._closing = threading.Event()
        self._next_attempt = 0.0
        self._warned = False
        self._opened = False
        self._replayed = False

    def open(self) -> None:
        """Open the run in the store, assign an id even if the store does not answer, and start."""
        self._attempt(self._open)
        self._state.header.run_id = self._state.header.run_id or uuid.uuid4().hex
        self._journal.save_state(self._state)
        self.start()

    def close(self) -> bool:
        """Send the remaining events, within seconds; returns whether the store has received all."""
        self._next_attempt = 0.0
        self._closing.set()
        self.join(CLOSE_TIMEOUT_SECONDS)
        if not self._state.ended:
            self._warn("it did not answer in time")
        return self._state.ended

    def run(self) -> None:
        """Send every few seconds until closed, then a last time."""
        closing = False
        while not closing:
            closing = self._closing.wait(SEND_INTERVAL_SECONDS)
            if closing or time.monotonic() >= self._next_attempt:
                self._attempt(self._send)

    def _open(self) -> Store:
        """Return the store, in which the run is opened unless it is open already."""
        self._store = self._store or Store(self._root)
        if not self._opened:
            open_in_store(self._store, self._journal, self._state)
            self._opened = True
        return self._store

    def _send(self) -> None:
        store = self._open()
        send(store, self._journal, self._state)
        if not self._replayed:
            self._replayed = True
            replay(store, self._root)

    def _attempt(self, call: Callable[[], object]) -> None:
        try:
            call()
        except Exception as error:
            self._next_attempt = time.monotonic() + RETRY_INTERVAL_SECONDS
            self._warn(str(error) or type(error).__name__)

    def _warn(self, reason: str) -> None:
        if not self._warned:
            self._warned = True
            logger.warning(
                "tracking: cannot write to %s now (%s); the stage continues, %s keeps the record "
                "and is sent with a later run",
                tracking_uri(self._root),
                " ".join(reason.split())[:200],
                self._journal.path,
            )
