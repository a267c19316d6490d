"""Local record of a run: its parameters, what it logged, and how much of it MLflow has received."""

import contextlib
import json
import logging
import os
import shutil
import threading
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

from filelock import FileLock
from pydantic import BaseModel, BeforeValidator, Field

from liquidgen.config.changes import is_later_setting
from liquidgen.tracking.events import Event, parse_event
from liquidgen.utils.files import atomic, write_json

MAX_BATCH_EVENTS = 500

logger = logging.getLogger("liquidgen.tracking")


class Header(BaseModel):
    """Everything that is needed to create a run in any store at any time.

    Attributes:
        run_id: Id that the run was opened with, or the one that MLflow gave it.
        experiment: Name of the MLflow experiment.
        name: Name of the run.
        params: Parameters by their full path.
        tags: Tags, one of which is the stage.
        parent: Run id of the training run that a run of sample or evaluate belongs to.
        description: What the settings change, as Markdown.
        later: What they change for the stages after the training, as names of rows say it.
        last_step: Last step of a training, which is 100% of it.
        start_time: Milliseconds since 1970, like all times here.
    """

    # earlier versions saved null until MLflow answered
    run_id: Annotated[str, BeforeValidator(lambda run_id: run_id or uuid.uuid4().hex)]
    experiment: str
    name: str
    params: dict[str, str]
    tags: dict[str, str]
    parent: str | None
    description: str = ""  # headers of earlier versions lack what has a default
    later: str = ""
    last_step: int | None = None
    start_time: int

    @property
    def later_settings(self) -> dict[str, str]:
        """The parameters of stages after the training."""
        return {key: value for key, value in self.params.items() if is_later_setting(key)}


class State(BaseModel):
    """Delivery state of a run, saved beside its journal.

    Attributes:
        header: The run.
        store: The store that received events, without secrets: see `address.stored`.
        mlflow_id: Id of the run in that store.
        offset: Bytes of the journal that the store has received, except for `waiting`.
        waiting: Offsets of events that do not hold back the points behind them, such as images.
        ended: Whether the store knows that the run has ended.
        deleted: Whether the run was deleted in the store: it is left alone.
        keep: Whether the journal is kept once the store has received everything.
    """

    header: Header
    store: str | None = None
    mlflow_id: str | None = None
    offset: int = Field(default=0, ge=0)
    waiting: list[Annotated[int, Field(ge=0)]] = []
    ended: bool = False
    deleted: bool = False
    keep: bool = True

    @property
    def opened_id(self) -> str:
        """Id of the run in its store, in which it must have been opened."""
        if self.mlflow_id is None:
            raise RuntimeError("the run was opened in no store")
        return self.mlflow_id


def now() -> int:
    """Return the time in milliseconds since 1970."""
    return int(time.time() * 1000)


class Journal:
    """Events of one run, one line of JSON each, and the files that they refer to.

    Events by their keys, in addition to `time`:
        metrics: {name: value}; step.
        image: file name; key, step, on_parent.
        artifact: file name.
        dataset: name; digest, source.
        parent: metrics {name: value} of the parent run; step.
        end: status; reason of a failure.

    Attributes:
        path: The file.
        files: Folder of the files that events refer to.
        lock: Held by whoever appends or sends.
        rejected: What MLflow said of entries that it will never take, and how often.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.files = path.with_suffix(".files")
        self.lock = FileLock(path.with_suffix(".lock"))
        self.rejected: Counter[str] = Counter()
        self._state_path = path.with_suffix(".state.json")
        self._write_lock = threading.Lock()
        self._state_lock = threading.Lock()
        self._closed = False
        self._warned = False

    @property
    def has_state(self) -> bool:
        """Whether a state was saved, even if its file is damaged now."""
        return self._state_path.exists()

    def read_state(self) -> State | None:
        """Return the saved state; None if there is none or, with a warning, if it is damaged."""
        try:
            state = State.model_validate_json(self._state_path.read_bytes())
        except FileNotFoundError:
            return None
        except ValueError:
            logger.warning(
                "tracking: %s: damaged; it is rebuilt, and all events are sent again, when the run "
                "continues",
                self._state_path,
            )
            return None
        # a copy made while the run was active may have an older journal than state
        state.offset = min(state.offset, self.path.stat().st_size)
        return state

    def save_state(self, state: State) -> None:
        """Save the delivery state, atomically.

        Raises:
            RuntimeError: The journal is closed.
        """
        with self._state_lock:
            if self._closed:
                raise RuntimeError("the journal is closed")
            write_json(self._state_path, state.model_dump())

    @property
    def is_closed(self) -> bool:
        """Whether the state belongs to somebody else by now."""
        return self._closed

    def close(self) -> None:
        """Keep the state from now on, which belongs to whoever opens the journal next.

        A thread that waits for an answer of MLflow cannot be ended, and may come back at any time.
        """
        with self._state_lock:
            self._closed = True

    def append(self, *events: Event) -> None:
        """Append events, one line each: all of them or, on an OSError, none.

        `truncate_partial_line` removes what a kill leaves incomplete, at the next opening.
        """
        lines = b"".join(json.dumps({"time": now()} | e).encode() + b"\n" for e in events)
        with self._write_lock, open(self.path, "ab", buffering=0) as file:
            size_before = file.tell()
            try:
                while lines:
                    lines = lines[file.write(lines) :]
            except BaseException:
                file.truncate(size_before)  # or the next line would continue a partial one
                raise
            # before the checkpoint that follows, or a power cut could leave a gap in the curve
            os.fsync(file.fileno())

    def try_append(self, event: Event) -> None:
        """Append an event; ignore an OSError."""
        with contextlib.suppress(OSError):
            self.append(event)

    def truncate_partial_line(self) -> None:
        """Remove an incomplete last line, left by a kill or a power cut."""
        self.path.touch()
        with open(self.path, "rb+") as file:
            file.truncate(file.read().rfind(b"\n") + 1)

    def save_file(self, name: str, content: bytes) -> None:
        """Save the file that the next event refers to."""
        self.files.mkdir(exist_ok=True)
        with atomic(self.files / name) as file:
            file.write(content)

    def events(self, offset: int = 0) -> Iterator[tuple[Event, int]]:
        """Yield events from a byte offset on, each with the offset of its end."""
        with open(self.path, "rb") as file:
            file.seek(offset)
            for line in file:
                if not line.endswith(b"\n"):  # is being written right now
                    return
                offset += len(line)
                yield self._decode(line), offset

    def _decode(self, line: bytes) -> Event:
        """Return the event of a line; an empty event, with one warning, if the line is damaged."""
        event = parse_event(line)
        if event is None and not self._warned:
            self._warned = True
            logger.warning("tracking: %s: a damaged line is left out", self.path)
        return event or {}

    def event_at(self, offset: int) -> Event:
        """Return the event at a byte offset; an empty event if there is none."""
        return next((event for event, _ in self.events(offset)), {})

    def batches(self, offset: int) -> Iterator[tuple[list[Event], int]]:
        """Yield batches from a byte offset on: many metrics events together, others one by one."""
        batch: list[Event] = []
        for event, end in self.events(offset):
            if batch and "metrics" not in event:
                yield batch, offset
                batch = []
            batch.append(event)
            offset = end
            if "metrics" not in event or len(batch) == MAX_BATCH_EVENTS:
                yield batch, offset
                batch = []
        if batch:
            yield batch, offset

    def last_steps(self) -> dict[str, int]:
        """Return the last step of each metric, and of each series of images as `image <key>`."""
        steps: dict[str, int] = {}
        for event, _ in self.events():
            for key in series_in(event):
                steps[key] = max(event["step"], steps.get(key, -1))
        return steps

    def is_pending(self, state: State) -> bool:
        """Return whether the store lacks events of the run or the fact that it has ended."""
        if state.deleted:
            return False
        return not state.ended or bool(state.waiting) or state.offset < self.path.stat().st_size

    def remove(self) -> None:
        """Delete the folder of the journal, which must hold nothing else."""
        shutil.rmtree(self.path.parent)


def series_in(event: Event) -> list[str]:
    """Return the names of the metrics, or of the series of images, that an event belongs to."""
    return [f"image {event['key']}"] if "image" in event else [*event.get("metrics", ())]
