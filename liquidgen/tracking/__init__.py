"""Runs recorded in MLflow; whatever happens to MLflow, the work that is recorded goes on.

    stage -> Run -> journal (a local file, the record) -> relay (a thread) -> store (MLflow)

A run's journal holds everything that is known about it. What the store has not yet got is sent
later: while the run goes on, at its end, or when the next run of the checkout opens.
"""

from liquidgen.tracking.run import Run
from liquidgen.tracking.start import open_run

__all__ = ["Run", "open_run"]
