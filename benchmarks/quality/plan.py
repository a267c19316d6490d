"""What trains next: first a search of each contestant's learning rate, then all seeds."""

from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.quality.field import Field
from benchmarks.quality.run import Run

FACTOR = 2  # between learning rates that are added where the best one lies at the edge


@dataclass(frozen=True)
class Plan:
    """Budgets in own CPU seconds of a training.

    Attributes:
        rates: Learning rates to begin with, at least 3.
        seeds: Seeds of the comparison; the first one is also that of the search.
        scan_seconds: Budget of each learning rate in the search.
        seconds: Budget of each training of the comparison.
    """

    field: Field
    contestants: Sequence[str]
    rates: Sequence[float]
    seeds: Sequence[int]
    scan_seconds: float
    seconds: float

    def unfinished(self) -> list[Run]:
        """Return the runs that are to go on, the one with the fewest seconds first.

        The search of all contestants comes before their comparison, so that they take turns in
        both: another program on this machine takes from all alike.
        """
        searched = [
            run
            for name in self.contestants
            for run in self.search(name)
            if seconds(run) < self.scan_seconds
        ]
        if searched:
            return sorted(searched, key=seconds)
        compared = [run for name in self.contestants for run in self.compared(name)]
        return sorted((run for run in compared if seconds(run) < self.seconds), key=seconds)

    def search(self, contestant: str) -> list[Run]:
        """Return the runs of a search so far, in order of learning rates.

        The search grows by one learning rate where the best of finished ones lies at the edge.
        """
        rates = sorted(self.rates)
        while True:
            runs = [Run(self.field, contestant, rate, self.seeds[0]) for rate in rates]
            if any(seconds(run) < self.scan_seconds for run in runs):
                return runs
            best = runs.index(best_of(runs))
            if 0 < best < len(runs) - 1:
                return runs
            rates = sorted([*rates, rates[0] / FACTOR if best == 0 else rates[-1] * FACTOR])

    def compared(self, contestant: str) -> list[Run]:
        """Return the runs of the comparison, one per seed, after the search."""
        rate = best_of(self.search(contestant)).learning_rate
        return [Run(self.field, contestant, rate, seed) for seed in self.seeds]


def seconds(run: Run) -> float:
    """Return the CPU seconds that a run has trained."""
    points = run.points()
    return points[-1]["seconds"] if points else 0.0


def best_of(runs: Sequence[Run]) -> Run:
    """Return the run with the lowest validation loss at the last step that all have reached."""
    step = last_common_step(runs)
    return min(runs, key=lambda run: run.losses()[step])


def last_common_step(runs: Sequence[Run]) -> int:
    """Return the last step at which all runs have been measured."""
    return max(set.intersection(*(set(run.losses()) for run in runs)))
