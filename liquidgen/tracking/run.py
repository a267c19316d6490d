"""What a stage sees of tracking: a run to which it logs."""

import functools
import io
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL.Image import Image

from liquidgen.tracking.journal import Journal, State

logger = logging.getLogger("liquidgen.tracking")

# settings of later stages change while the training run stays: tags of it, not parameters
LATER_SETTINGS = ("sample.", "evaluate.")


def is_later(param: str) -> bool:
    """Whether a parameter belongs to a stage that runs again and again on one training run."""
    return param.startswith(LATER_SETTINGS)


def _never_raises(log: Callable[..., None]) -> Callable[..., None]:
    """Whatever goes wrong while logging costs a warning, not the work that is logged."""

    @functools.wraps(log)
    def safe(self: "Run", *args: Any, **kwargs: Any) -> None:
        try:
            log(self, *args, **kwargs)
        except Exception as error:
            if log.__name__ not in self._warned:
                self._warned.add(log.__name__)
                logger.warning("tracking: %s failed: %r", log.__name__, error)

    return safe


class Run:
    """An open run. Its methods return at once and never raise; any thread may call them.

    Metrics are recorded as `<stage>/<name>`.
    """

    def __init__(self, journal: Journal, state: State):
        self._journal, self._state = journal, state
        self._last_steps = journal.last_steps()
        self._warned: set[str] = set()

    @property
    def run_id(self) -> str:
        """MLflow's id of the run, or one of ours, tagged there, if MLflow was out of reach."""
        return self._state.mlflow_id or self._state.header.run_id

    @_never_raises
    def log_metrics(self, metrics: dict[str, float], step: int) -> None:
        """Log points of curves; what was logged before an interruption is not repeated."""
        named = self._named(metrics)
        new = {key: value for key, value in named.items() if self._is_new(key, step)}
        if new:
            self._journal.append({"metrics": new, "step": step})

    @_never_raises
    def log_image(self, image: Image, key: str, step: int, *, on_parent: bool = False) -> None:
        """Log a picture, or show it with the parent run; those of one key form a series."""
        if on_parent:
            self._require_parent()
        if self._is_new(f"image {key}", step):
            name = f"{key.replace('/', '~')}-{step}.png"
            png = io.BytesIO()
            image.save(png, "png")
            self._journal.keep_file(name, png.getvalue())
            event = {"image": name, "key": key, "step": step, "on_parent": on_parent}
            self._journal.append(event)

    @_never_raises
    def log_artifact(self, path: Path, folder: str | None = None) -> None:
        """Keep a copy of a small file with the run."""
        self._journal.keep_file(path.name, path.read_bytes())
        self._journal.append({"artifact": path.name, "folder": folder})

    @_never_raises
    def log_dataset(self, name: str, digest: str, source: str) -> None:
        """Record the data that went in."""
        self._journal.append({"dataset": name, "digest": digest, "source": source})

    @_never_raises
    def set_tags(self, tags: dict[str, Any]) -> None:
        """Set tags, replacing earlier values."""
        self._journal.append({"tags": {key: str(value) for key, value in tags.items()}})

    @_never_raises
    def copy_to_parent(self, metrics: dict[str, float], step: int = 0) -> None:
        """Give the parent run the latest scores, with the settings they were made with as tags."""
        self._require_parent()
        settings = {k: v for k, v in self._state.header.params.items() if is_later(k)}
        scores = self._named(metrics)
        self._journal.append({"parent": scores, "tags": settings, "step": step})

    def _named(self, metrics: dict[str, float]) -> dict[str, float]:
        stage = self._state.header.tags["stage"]
        return {f"{stage}/{name}": float(value) for name, value in metrics.items()}

    def _require_parent(self) -> None:
        if self._state.header.parent is None:
            raise ValueError("the run has no parent")

    def _is_new(self, key: str, step: int) -> bool:
        if step <= self._last_steps.get(key, -1):
            return False
        self._last_steps[key] = step
        return True
