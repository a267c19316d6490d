"""Where points and pictures of a training go: a record, and callbacks such as a notebook."""

import logging
from collections.abc import Callable, Sequence
from typing import Protocol

from PIL.Image import Image

logger = logging.getLogger(__name__)


class TrainingLogger(Protocol):
    """Where points and pictures of a training go."""

    def log_metrics(self, metrics: dict[str, float], step: int) -> None: ...
    def log_image(self, image: Image, key: str, step: int) -> None: ...


class CallbackLogger:
    """A log that also shows callbacks, such as a notebook, what it records.

    A callback that fails is warned of once; it stops no training, and is shown what follows.
    """

    def __init__(self, log: TrainingLogger, callbacks: Sequence[TrainingLogger]) -> None:
        self._log, self._onlookers = log, callbacks
        self._warned_of: set[int] = set()

    def log_metrics(self, metrics: dict[str, float], step: int) -> None:
        """Record and show points."""
        self._log.log_metrics(metrics, step)
        self._show(lambda callback: callback.log_metrics(metrics, step))

    def log_image(self, image: Image, key: str, step: int) -> None:
        """Record and show a picture."""
        self._log.log_image(image, key, step)
        self._show(lambda callback: callback.log_image(image, key, step))

    def _show(self, call: Callable[[TrainingLogger], None]) -> None:
        for number, callback in enumerate(self._onlookers):
            try:
                call(callback)
            except Exception as error:  # drives and displays raise anything
                if number not in self._warned_of:
                    self._warned_of.add(number)
                    name, reason = type(callback).__name__, f"{type(error).__name__}: {error}"
                    logger.warning(
                        "callback %s failed (%s); the training goes on, and this is said once",
                        name,
                        reason,
                    )
