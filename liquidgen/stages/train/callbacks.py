"""Where points and pictures of a training go: a record, and onlookers such as a notebook."""

import logging
from collections.abc import Callable, Sequence
from typing import Protocol

from PIL.Image import Image

logger = logging.getLogger(__name__)


class Log(Protocol):
    """Where points and pictures of a training go."""

    def log_metrics(self, metrics: dict[str, float], step: int) -> None: ...
    def log_image(self, image: Image, key: str, step: int) -> None: ...


class Unrecorded:
    """The log of all processes but the first."""

    def log_metrics(self, metrics: dict[str, float], step: int) -> None:
        """Leave it to the first."""

    def log_image(self, image: Image, key: str, step: int) -> None:
        """Leave it to the first."""


class Watched:
    """A log that also shows onlookers, such as a notebook, what it records.

    An onlooker that fails is warned of once; it stops no training, and is shown what follows.
    """

    def __init__(self, log: Log, onlookers: Sequence[Log]) -> None:
        self._log, self._onlookers = log, onlookers
        self._warned_of: set[int] = set()

    def log_metrics(self, metrics: dict[str, float], step: int) -> None:
        """Record and show points."""
        self._log.log_metrics(metrics, step)
        self._show(lambda onlooker: onlooker.log_metrics(metrics, step))

    def log_image(self, image: Image, key: str, step: int) -> None:
        """Record and show a picture."""
        self._log.log_image(image, key, step)
        self._show(lambda onlooker: onlooker.log_image(image, key, step))

    def _show(self, call: Callable[[Log], None]) -> None:
        for number, onlooker in enumerate(self._onlookers):
            try:
                call(onlooker)
            except Exception as error:  # drives and displays raise anything
                if number not in self._warned_of:
                    self._warned_of.add(number)
                    name, reason = type(onlooker).__name__, f"{type(error).__name__}: {error}"
                    logger.warning(
                        "onlooker %s failed (%s); the training goes on, and this is said once",
                        name,
                        reason,
                    )
