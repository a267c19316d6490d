"""The local record of a run: who it is, what it logged, and how much of that the store has."""

import contextlib
import json
import logging
import os
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from filelock import FileLock
from pydantic import BaseModel

from liquidgen.utils.files import atomic, write_json

Event = dict[str, Any]
BATCH_EVENTS = 500

logger = logging.getLogger("liquidgen.tracking")


class Header(BaseModel):
    """A run as it was opened; enough to create it in any store at any time."""

    run_id: str | None  # None until the store or, without one, we have decided it
    experiment: str
    name: str
    params: dict[str, str]
    tags: dict[str, str]
    parent: str | None
    start_time: int  # ms since 1970, as all times here


class State(BaseModel):
    """A run and how far it was sent: `offset` bytes of the journal to `mlflow_id` of `store`."""

    header: Header
    store: str | None = None
    mlflow_id: str | None = None
    offset: int = 0
    ended: bool = False
    keep: bool = True  # the journal, once the store has everything


def now() -> int:
    """The time in ms since 1970."""
    return int(time.time() * 1000)


class Journal:
    """Events of one run, a JSON line each, kept with the pictures and files that they name.

    | event | keys |
    |---|---|
    | metrics | metrics {name: value}, step |
    | image | image (file name), key, step, on_parent |
    | artifact | artifact (file name), folder |
    | dataset | dataset (name), digest, source |
    | tags | tags {name: value} |
    | parent | parent {name: value}, tags, step |
    | end | end (status) |
    """

    def __init__(self, path: Path):
        self.path = path
        self.files = path.with_suffix(".files")
        self._state_path = path.with_suffix(".state.json")
        self._writing = threading.Lock()
        self.lock = FileLock(path.with_suffix(".lock"))

    @property
    def has_state(self) -> bool:
        """Whether a state was saved, be it damaged since."""
        return self._state_path.exists()

    def read_state(self) -> State | None:
        """What was last saved; None where nothing is there, or, with a warning, nothing whole."""
        try:
            state = State.model_validate_json(self._state_path.read_bytes())
        except FileNotFoundError:
            return None
        except ValueError:
            logger.warning(
                "tracking: %s: damaged; made anew, and all is sent again, once the run goes on",
                self._state_path,
            )
            return None
        # a copy that was made meanwhile may have an older journal than state
        state.offset = min(state.offset, self.path.stat().st_size)
        return state

    def save_state(self, state: State) -> None:
        """Save how far the journal was sent, atomically."""
        write_json(self._state_path, state.model_dump())

    def append(self, *events: Event) -> None:
        """Add events, one line each: all of them or, raising OSError, none.

        What a kill leaves unfinished is removed by `mend` at the next opening.
        """
        rest = b"".join(json.dumps({"time": now()} | e).encode() + b"\n" for e in events)
        with self._writing, open(self.path, "ab", buffering=0) as file:
            before = file.tell()
            try:
                while rest:
                    rest = rest[file.write(rest) :]
            except BaseException:
                file.truncate(before)  # or the next line would be glued to a part of this one
                raise
            # before the checkpoint that follows it, or a power cut could leave a gap in the curve
            os.fsync(file.fileno())

    def try_append(self, event: Event) -> None:
        """Add an event unless the disk refuses it."""
        with contextlib.suppress(OSError):
            self.append(event)

    def mend(self) -> None:
        """Cut a last line that a kill or a power cut left unfinished."""
        self.path.touch()
        with open(self.path, "rb+") as file:
            file.truncate(file.read().rfind(b"\n") + 1)

    def keep_file(self, name: str, content: bytes) -> None:
        """Keep the file that an event is about to name."""
        self.files.mkdir(exist_ok=True)
        with atomic(self.files / name) as file:
            file.write(content)

    def events(self, offset: int = 0) -> Iterator[tuple[Event, int]]:
        """Events from a byte offset on, each with the offset of the next."""
        with open(self.path, "rb") as file:
            file.seek(offset)
            for line in file:
                if not line.endswith(b"\n"):  # being written at this moment
                    return
                offset += len(line)
                yield self._decoded(line), offset

    def _decoded(self, line: bytes) -> Event:
        """The event of a line; an empty one where the disk lost it, say in a power cut."""
        try:
            return json.loads(line)
        except ValueError:
            logger.warning("tracking: %s: a damaged line is left out", self.path)
            return {}

    def batches(self, offset: int) -> Iterator[tuple[list[Event], int]]:
        """Events from an offset on: metrics a few hundred at a time, others one by one."""
        batch: list[Event] = []
        for event, end in self.events(offset):
            if batch and "metrics" not in event:
                yield batch, offset
                batch = []
            batch.append(event)
            offset = end
            if "metrics" not in event or len(batch) == BATCH_EVENTS:
                yield batch, offset
                batch = []
        if batch:
            yield batch, offset

    def last_steps(self) -> dict[str, int]:
        """The last step of each metric, and of each series of pictures as `image <key>`."""
        steps: dict[str, int] = {}
        for event, _ in self.events():
            for key in series(event):
                steps[key] = max(event["step"], steps.get(key, -1))
        return steps

    def pending(self, state: State) -> bool:
        """Whether the store still misses something of the run, be it only its end."""
        return not state.ended or state.offset < self.path.stat().st_size

    def remove(self) -> None:
        """Delete the journal with its folder, which must hold nothing else."""
        shutil.rmtree(self.path.parent)


def series(event: Event) -> list[str]:
    """The metrics that an event has points of, or the series of pictures that it goes on."""
    return [f"image {event['key']}"] if "image" in event else [*event.get("metrics", ())]
