"""The run that a stage logs to."""

import functools
import io
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL.Image import Image

from liquidgen.tracking.journal import Journal, State

logger = logging.getLogger("liquidgen.tracking")

SIGNIFICANT_DIGITS = 5


def _never_raises(log: Callable[..., None]) -> Callable[..., None]:
    """Turn any exception of a logging method into a warning, once per method."""

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
    """An open run. The methods return at once and never raise; they are thread-safe.

    Metrics are recorded as `<stage>/<name>`.
    """

    def __init__(self, journal: Journal, state: State) -> None:
        self._journal = journal
        self._state = state
        self._last_steps = journal.last_steps()
        self._warned: set[str] = set()

    @property
    def run_id(self) -> str:
        """MLflow's id of the run; until MLflow has answered, the id that will be its tag there."""
        return self._state.mlflow_id or self._state.header.run_id

    @_never_raises
    def log_metrics(self, metrics: dict[str, float], step: int) -> None:
        """Log metrics of a step, except those already logged before an interruption."""
        named = self._with_stage(metrics)
        new = {key: value for key, value in named.items() if self._is_new(key, step)}
        if new:
            self._journal.append({"metrics": new, "step": step})

    @_never_raises
    def log_image(
        self, image: Image | Path, key: str, step: int, *, on_parent: bool = False
    ) -> None:
        """Log an image of a step; images of one key form a series.

        Args:
            image: The image, or its PNG file.
            key: Name of the series.
            step: Step of the training.
            on_parent: Whether the image is shown with the parent run instead of this one.
        """
        if on_parent:
            self._require_parent()
        if self._is_new(f"image {key}", step):
            name = f"{key.replace('/', '~')}-{step}.png"
            self._journal.save_file(name, _png(image))
            event = {"image": name, "key": key, "step": step, "on_parent": on_parent}
            self._journal.append(event)

    @_never_raises
    def log_artifact(self, path: Path) -> None:
        """Store a copy of a small file with the run."""
        self._journal.save_file(path.name, path.read_bytes())
        self._journal.append({"artifact": path.name})

    @_never_raises
    def log_dataset(self, name: str, digest: str, source: str) -> None:
        """Log the dataset that the run uses or makes."""
        self._journal.append({"dataset": name, "digest": digest, "source": source})

    @_never_raises
    def log_to_parent(self, metrics: dict[str, float], step: int = 0) -> None:
        """Log metrics to the row of the parent run with this run's settings."""
        self._require_parent()
        self._journal.append({"parent": self._with_stage(metrics), "step": step})

    def _with_stage(self, metrics: dict[str, float]) -> dict[str, float]:
        stage = self._state.header.tags["stage"]
        return {f"{stage}/{name}": _rounded(float(value)) for name, value in metrics.items()}

    def _require_parent(self) -> None:
        if self._state.header.parent is None:
            raise ValueError("the run has no parent")

    def _is_new(self, key: str, step: int) -> bool:
        if step <= self._last_steps.get(key, -1):
            return False
        self._last_steps[key] = step
        return True


def _png(image: Image | Path) -> bytes:
    if isinstance(image, Path):
        return image.read_bytes()
    png = io.BytesIO()
    image.save(png, "png")
    return png.getvalue()


def _rounded(value: float) -> float:
    """Round a fraction: MLflow's table shows all digits, and cuts what does not fit."""
    return value if value.is_integer() else float(f"{value:.{SIGNIFICANT_DIGITS}g}")


class NullRun(Run):
    """Run of ranks > 0: every method records nothing."""

    def __init__(self) -> None:
        """Open neither a journal nor a connection."""

    def _ignore(self, *args: object, **kwargs: object) -> None:
        """Record nothing."""

    log_metrics = log_image = log_artifact = log_dataset = log_to_parent = _ignore
