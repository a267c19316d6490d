"""Opens and closes the run of a stage."""

import os
import shutil
import subprocess
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import Timeout

from liquidgen.tracking.inherit import inherit
from liquidgen.tracking.journal import Header, Journal, State, now
from liquidgen.tracking.relay import Relay
from liquidgen.tracking.run import Run, is_later
from liquidgen.utils.errors import UserError

DATA_STAGES = ("download", "encode")
LONGEST_VALUE = 5000  # characters of a parameter or tag; MLflow refuses longer ones
OPENING_PATIENCE = 30.0  # seconds to wait for a process that just sends this journal


@contextmanager
def open_run(
    root: Path,
    experiment: str,
    stage: str,
    *,
    name: str,
    params: dict[str, Any],
    tags: dict[str, Any] | None = None,
    parent: str | None = None,
    resume: str | None = None,
    journal: Path | None = None,
    earlier: Iterable[Path] = (),
    start_step: int = 0,
) -> Iterator[Run]:
    """Record a stage as a run of `experiment` (data stages: of `<experiment>-data`).

    | argument | meaning |
    |---|---|
    | root | the real checkout: holds the default store, and `work/` |
    | params | flat, as `train.seed`; only a child records those of sample and evaluate |
    | parent | run_id of the training run that a child belongs to, from run.json |
    | resume | run_id of the run that is continued, or begun if there is none |
    | journal | where the run is kept; None: below `work/tracking` until it is sent |
    | earlier | journals of other runs of the same training |
    | start_step | where work goes on: what the run lacks up to here is taken from `earlier` |

    A run that is in `journal` already is continued, whatever `resume` says.

    MLflow's failures are warnings. Raises UserError while another process records into `journal`,
    and OSError where it cannot be written.
    """
    run_params = {k: _text(v) for k, v in params.items() if parent or not is_later(k)}
    header = Header(
        run_id=resume,
        experiment=f"{experiment}-data" if stage in DATA_STAGES else experiment,
        name=name,
        params=run_params,
        tags=_circumstances(stage) | {k: _text(v) for k, v in (tags or {}).items()},
        parent=parent,
        start_time=now(),
    )
    kept = _lock(journal or root / "work/tracking" / uuid.uuid4().hex / "metrics.jsonl")
    try:
        state = _continued(kept, header) or State(header=header, keep=journal is not None)
        inherit(kept, [Journal(path) for path in earlier if path != kept.path], start_step)
        relay = Relay(root, kept, state)
        relay.open()
        run = Run(kept, state)
        with _ending(kept, state, relay):
            yield run
    finally:
        kept.lock.release()


def _lock(path: Path) -> Journal:
    path.parent.mkdir(parents=True, exist_ok=True)
    journal = Journal(path)
    try:
        journal.lock.acquire(timeout=OPENING_PATIENCE)
    except Timeout:
        raise UserError(f"{path}: another process records into it; wait or stop it") from None
    return journal


def _continued(journal: Journal, header: Header) -> State | None:
    """The state of the run in the journal, opened anew by this header; None where there is none."""
    journal.mend()
    state = journal.read_state()
    if state:
        names = (state.mlflow_id or state.header.run_id, state.header.run_id)
        if header.run_id not in names:
            header.run_id = names[0]
        header.start_time = state.header.start_time  # the store may not have the run yet
        state.header = header
    return state


@contextmanager
def _ending(journal: Journal, state: State, relay: Relay) -> Iterator[None]:
    """Tell how the run ended, and send what can still be sent."""
    status = "KILLED"  # by KeyboardInterrupt or SystemExit: stopped, not failed
    try:
        yield
        status = "FINISHED"
    except Exception:
        status = "FAILED"
        raise
    finally:
        journal.try_append({"end": status})
        if relay.close() and not state.keep:
            journal.remove()


def _text(value: Any) -> str:
    return str(value)[:LONGEST_VALUE]


def _circumstances(stage: str) -> dict[str, str]:
    """Tags of where and from what a stage was started."""
    tags = {
        "stage": stage,
        "mlflow.source.name": f"stages/{stage}.py",
        "mlflow.source.type": "LOCAL",
        "dvc.experiment": os.environ.get("DVC_EXP_NAME", ""),
        "mlflow.source.git.commit": _git_revision(),
    }
    return {key: value for key, value in tags.items() if value}


def _git_revision() -> str:
    if not Path(".git").exists() or not shutil.which("git"):
        return ""
    command = ["git", "rev-parse", "HEAD"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
