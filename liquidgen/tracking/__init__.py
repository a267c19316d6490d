"""Experiment tracking with MLflow that never stops or slows down the work that is recorded.

    stage -> Run -> Journal (a local file) -> Relay (a thread) -> Store (MLflow)

The journal of a run is its complete record. Events that MLflow has not received yet are sent
later: while the run is active, at its end, or when the next run of the checkout opens.
"""

from liquidgen.tracking.run import Run
from liquidgen.tracking.start import open_run

__all__ = ["Run", "open_run"]
