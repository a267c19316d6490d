"""Carries journals to the store."""

import contextlib
import logging
import threading
import time
import uuid
from pathlib import Path

from filelock import Timeout

from liquidgen.tracking.journal import Event, Journal, State, now
from liquidgen.tracking.store import Store, is_refusal, tracking_uri

logger = logging.getLogger("liquidgen.tracking")

PERIOD = 2.0  # seconds between looks at the journal
RETRY_PERIOD = 30.0  # seconds between attempts while the store does not answer
LAST_ATTEMPT = 10.0  # seconds that the end of a run may wait for the store


def open_in(store: Store, journal: Journal, state: State) -> None:
    """Find or create the run; where it is not the one that was sent to before, send all anew."""
    run = store.open(state.header)
    if (store.uri, run) != (state.store, state.mlflow_id):
        state.store, state.mlflow_id, state.offset = store.uri, run, 0
    state.ended = False
    journal.save_state(state)


def send(store: Store, journal: Journal, state: State) -> None:
    """Send what the store misses of an open run.

    Raises what MLflow raises while the store does not answer. An entry that it would refuse for
    ever costs a warning, and is left out.
    """
    for events, offset in journal.batches(state.offset):
        if "end" not in events[0]:
            _write(store, journal, state, events)
        elif offset == journal.path.stat().st_size:  # an earlier end was followed by more
            store.end(state.mlflow_id, events[0]["end"], events[0]["time"])
            state.ended = True
        state.offset = offset
        journal.save_state(state)


def _write(store: Store, journal: Journal, state: State, events: list[Event]) -> None:
    """Write events, but for those that MLflow refuses."""
    try:
        store.write(state.mlflow_id, events, journal, state.header)
    except Exception as error:
        if not is_refusal(error):
            raise
        if len(events) == 1:
            logger.warning("tracking: MLflow refused an entry, it is left out: %s", error)
            return
        for event in events:
            _write(store, journal, state, [event])


def replay(store: Store, root: Path) -> None:
    """Send what ended or killed runs of this checkout still owe to this store.

    Raises what MLflow raises while the store does not answer.
    """
    for path in sorted((root / "work").glob("**/metrics.jsonl")):
        journal = Journal(path)
        if not journal.has_state:
            continue
        open_elsewhere = contextlib.suppress(Timeout, FileNotFoundError)  # or just removed there
        with open_elsewhere, journal.lock.acquire(timeout=0):
            _replay(store, journal)


def _replay(store: Store, journal: Journal) -> None:
    state = journal.read_state()
    if state is None or state.store not in (None, store.uri) or not journal.pending(state):
        return
    journal.mend()
    open_in(store, journal, state)
    send(store, journal, state)
    if not state.ended:  # killed before it could say so
        store.end(state.mlflow_id, "KILLED", now())
        state.ended = True
        journal.save_state(state)
    if not state.keep:
        journal.remove()


class Relay(threading.Thread):
    """A daemon that sends a journal while it grows, and never raises."""

    def __init__(self, root: Path, journal: Journal, state: State):
        super().__init__(name="tracking", daemon=True)
        self._root, self._journal, self._state = root, journal, state
        self._store: Store | None = None
        self._closing = threading.Event()
        self._next_attempt = 0.0
        self._warned = self._replayed = self._opened = False

    def open(self) -> None:
        """Open the run in the store now, if it answers; give it an id in any case; and start."""
        self._attempt(self._open)
        self._state.header.run_id = self._state.header.run_id or uuid.uuid4().hex
        self._journal.save_state(self._state)
        self.start()

    def close(self) -> bool:
        """Send the rest, within seconds; whether the store has everything."""
        self._next_attempt = 0.0
        self._closing.set()
        self.join(LAST_ATTEMPT)
        if not self._state.ended:
            self._warn("it did not answer in time")
        return self._state.ended

    def run(self) -> None:
        """Send every few seconds until closed, then once more."""
        closing = False
        while not closing:
            closing = self._closing.wait(PERIOD)
            if closing or time.monotonic() >= self._next_attempt:
                self._attempt(self._send)

    def _open(self) -> None:
        self._store = self._store or Store(self._root)
        open_in(self._store, self._journal, self._state)
        self._opened = True

    def _send(self) -> None:
        if not self._opened:
            self._open()
        send(self._store, self._journal, self._state)
        if not self._replayed:
            self._replayed = True
            replay(self._store, self._root)

    def _attempt(self, work) -> None:
        try:
            work()
        except Exception as error:
            self._next_attempt = time.monotonic() + RETRY_PERIOD
            self._warn(str(error) or type(error).__name__)

    def _warn(self, reason: str) -> None:
        if not self._warned:
            self._warned = True
            logger.warning(
                "tracking: %s cannot be written now (%s); the work goes on, %s keeps the record "
                "and is sent with a later run",
                tracking_uri(self._root),
                " ".join(reason.split())[:200],
                self._journal.path,
            )
