"""Sends the journal of an active run to the store, in the background."""

import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path

from liquidgen.tracking.address import (
    is_database,
    reason,
    sqlite_file,
    tracking_uri,
    without_secrets,
)
from liquidgen.tracking.journal import Journal, State
from liquidgen.tracking.rows import RunDeleted
from liquidgen.tracking.sending import (
    leave_alone,
    open_in_store,
    open_store,
    replay,
    report_rejected,
    send_files,
    send_points,
)
from liquidgen.tracking.store import Store, prepare

logger = logging.getLogger("liquidgen.tracking")

SEND_INTERVAL_SECONDS = 2.0
RETRY_INTERVAL_SECONDS = 30.0  # while the store does not answer
# what a store that does not answer may cost: at the opening of a run, and at its end
ANSWER_TIMEOUT_SECONDS = 3.0
CLOSE_TIMEOUT_SECONDS = 10.0  # for the last attempt, at the end of a run, while it does answer
SILENCE_SECONDS = 30.0  # before a warning that an opening takes long


class Relay(threading.Thread):
    """Daemon thread that sends a growing journal; failures of MLflow become one warning.

    Only this thread waits for the store, which can answer in ways that no client can end.
    """

    def __init__(self, root: Path, journal: Journal, state: State) -> None:
        super().__init__(name="tracking", daemon=True)
        self._root = root
        self._journal = journal
        self._state = state
        self._store: Store | None = None
        self._closing = threading.Event()
        self._tried_to_open = threading.Event()
        self._next_attempt = 0.0
        self._warned = False
        self._opened = False
        self._replayed = False

    def open(self) -> None:
        """Start; returns when the run is open in the store, or after seconds."""
        deadline = time.monotonic() + ANSWER_TIMEOUT_SECONDS
        self._journal.save_state(self._state)
        # not in the thread, where it could meet the imports of the stage
        self._attempt(lambda: prepare(self._root))
        if is_database(tracking_uri(self._root)):  # it does not depend on a server
            deadline = time.monotonic() + ANSWER_TIMEOUT_SECONDS
        self.start()
        if not self._tried_to_open.wait(max(0.0, deadline - time.monotonic())):
            silence = threading.Timer(SILENCE_SECONDS, self._warn_of_silence)
            silence.daemon = True
            silence.start()

    def close(self) -> bool:
        """Send the remaining events, within seconds; returns whether the store has received all."""
        self._next_attempt = 0.0
        self._closing.set()
        self._wait_for_answers()
        self._journal.close()
        report_rejected(self._journal)
        pending = self._journal.is_pending(self._state)
        if pending:
            self._warn("it did not answer in time")
        return not pending

    def _wait_for_answers(self) -> None:
        """Wait until the thread ends, while the store takes entries."""
        # a file says at once that it cannot be opened or is locked: what takes time is work
        is_file = sqlite_file(tracking_uri(self._root)) is not None
        patience = CLOSE_TIMEOUT_SECONDS if is_file else ANSWER_TIMEOUT_SECONDS
        answers = -1
        started = answered = time.monotonic()
        while self.is_alive():
            now = time.monotonic()
            if self._store and self._store.answers != answers:
                answers, answered = self._store.answers, now
            if now > answered + patience or now > started + CLOSE_TIMEOUT_SECONDS:
                return
            self.join(0.05)

    def run(self) -> None:
        """Open the run, and send every few seconds until closed, then a last time."""
        self._attempt(self._open)
        self._tried_to_open.set()
        closing = False
        while not closing and not self._state.deleted:
            closing = self._closing.wait(SEND_INTERVAL_SECONDS)
            if closing or time.monotonic() >= self._next_attempt:
                self._attempt(self._send)

    def _open(self) -> Store:
        """Return the store, in which the run is opened unless it is open already."""
        self._store = self._store or open_store(self._root)
        if not self._opened and not self._journal.is_closed:
            open_in_store(self._store, self._journal, self._state)
            self._opened = True
        return self._store

    def _send(self) -> None:
        store = self._open()
        send_points(store, self._journal, self._state)
        try:
            send_files(store, self._journal, self._state)
        finally:
            if not self._replayed:
                self._replayed = True
                replay(store, self._root)

    def _attempt(self, call: Callable[[], object]) -> None:
        if self._journal.is_closed:  # the answer before came too late
            return
        try:
            try:
                call()
            except RunDeleted as error:
                leave_alone(self._root, self._journal, self._state, error)
        except Exception as error:
            self._next_attempt = time.monotonic() + RETRY_INTERVAL_SECONDS
            if not self._journal.is_closed:
                self._warn(reason(error))

    def _warn_of_silence(self) -> None:
        if not self._tried_to_open.is_set() and not self._closing.is_set():
            self._warn("it does not answer")

    def _warn(self, what: str) -> None:
        if not self._warned:
            self._warned = True
            logger.warning(
                "tracking: cannot write to %s now (%s); the stage continues, %s keeps the record "
                "and is sent with a later run",
                without_secrets(tracking_uri(self._root)),
                what,
                self._journal.path,
            )
