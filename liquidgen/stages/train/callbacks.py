"""Training callbacks: the logger interface, and a logger that forwards to several."""

import logging
from collections.abc import Callable, Sequence
from typing import Protocol

from PIL.Image import Image

logger = logging.getLogger(__name__)


class TrainingLogger(Protocol):
    """Receives the metrics and images of a training, such as an MLflow run or a notebook."""

    def log_metrics(self, metrics: dict[str, float], step: int) -> None:
        """Log the values of metrics by name at a training step."""

    def log_image(self, image: Image, key: str, step: int) -> None:
        """Log an image, such as a preview, under a key at a training step."""


class CallbackLogger:
    """Passes everything on to a log, and to callbacks.

    A callback that fails causes one warning. It never stops the training, and later calls are
    still passed on to it.
    """

    def __init__(self, log: TrainingLogger, callbacks: Sequence[TrainingLogger]) -> None:
        self._log = log
        self._callbacks = callbacks
        self._warned: set[int] = set()

    def log_metrics(self, metrics: dict[str, float], step: int) -> None:
        """Log metrics."""
        self._log.log_metrics(metrics, step)
        self._call_each(lambda callback: callback.log_metrics(metrics, step))

    def log_image(self, image: Image, key: str, step: int) -> None:
        """Log an image."""
        self._log.log_image(image, key, step)
        self._call_each(lambda callback: callback.log_image(image, key, step))

    def _call_each(self, call: Callable[[TrainingLogger], None]) -> None:
        for number, callback in enumerate(self._callbacks):
            try:
                call(callback)
            except Exception as error:  # callbacks are user code: they may raise anything
                if number in self._warned:
                    continue
                self._warned.add(number)
                logger.warning(
                    "callback %s failed (%s: %s); the training goes on, and this warning "
                    "appears once",
                    type(callback).__name__,
                    type(error).__name__,
                    error,
                )
