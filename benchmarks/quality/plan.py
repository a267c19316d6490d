"""What trains next: first a search of each contestant's learning rate, then all seeds."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from benchmarks.quality.field import Field
from benchmarks.quality.run import Point, Run
from liquidgen.utils.errors import UserError

FACTOR = 2  # between learning rates that are added where the best one lies at the edge


@dataclass(frozen=True)
class Plan:
    """Who trains, and how long, in own CPU seconds of a training.

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

    def __post_init__(self) -> None:
        if len(set(self.rates)) < 3:
            raise UserError("--rates: at least 3, so that one lies between two others")


@dataclass
class Standing:
    """How far a plan has come; what it reads from the disk, it reads once.

    Other processes may train beside this one: each look is a new standing.
    """

    plan: Plan
    _read: dict[Run, list[Point]] = field(default_factory=dict)

    def points(self, run: Run) -> list[Point]:
        """Return the curve of a run."""
        if run not in self._read:
            self._read[run] = run.read_points()
        return self._read[run]

    def seconds(self, run: Run) -> float:
        """Return the CPU seconds that a run has trained."""
        points = self.points(run)
        return points[-1]["seconds"] if points else 0.0

    def unfinished(self) -> list[Run]:
        """Return the runs that are to go on, the one with the fewest seconds first.

        The search of all contestants comes before their comparison, and they take turns in both:
        another program on this machine takes from all alike.
        """
        plan = self.plan
        searched = self._below(plan.scan_seconds, map(self.search, plan.contestants))
        if searched:
            return searched
        return self._below(plan.seconds, map(self.compared, plan.contestants))

    def _below(self, budget: float, groups: Iterable[list[Run]]) -> list[Run]:
        runs = [run for group in groups for run in group if self.seconds(run) < budget]
        return sorted(runs, key=self.seconds)

    def search(self, contestant: str) -> list[Run]:
        """Return the runs of a search so far, in order of learning rates.

        The search grows by one learning rate where the best of finished ones lies at the edge.
        """
        plan = self.plan
        rates = sorted(set(plan.rates))
        while True:
            runs = [Run(plan.field, contestant, rate, plan.seeds[0]) for rate in rates]
            if any(self.seconds(run) < plan.scan_seconds for run in runs):
                return runs
            losses = self.search_losses(runs)
            best = losses.index(min(losses))
            if 0 < best < len(runs) - 1:
                return runs
            rates = sorted([*rates, rates[0] / FACTOR if best == 0 else rates[-1] * FACTOR])

    def is_searched(self, contestant: str) -> bool:
        """Return whether the search of a contestant is over."""
        runs = self.search(contestant)
        return all(self.seconds(run) >= self.plan.scan_seconds for run in runs)

    def search_step(self, runs: Sequence[Run]) -> int:
        """Return the last step that all of these finished runs made within the search's budget."""
        return min(self._search_points(run)[-1]["step"] for run in runs)

    def search_losses(self, runs: Sequence[Run]) -> list[float]:
        """Return the validation loss of each run at that step; one that diverged is infinite."""
        step = self.search_step(runs)
        losses = []
        for run in runs:
            by_step = {point["step"]: point["validation_loss"] for point in self.points(run)}
            losses.append(by_step[step] if math.isfinite(by_step[step]) else math.inf)
        return losses

    def _search_points(self, run: Run) -> list[Point]:
        """Return the points up to the end of the search: the best run goes on after it."""
        points = self.points(run)
        ended = [point["seconds"] >= self.plan.scan_seconds for point in points].index(True)
        return points[: ended + 1]

    def compared(self, contestant: str) -> list[Run]:
        """Return the runs of the comparison, one per seed, after the search."""
        rate = self.best_rate(contestant)
        return [Run(self.plan.field, contestant, rate, seed) for seed in self.plan.seeds]

    def best_rate(self, contestant: str) -> float:
        """Return the learning rate that a finished search found."""
        runs = self.search(contestant)
        losses = self.search_losses(runs)
        return runs[losses.index(min(losses))].learning_rate

    def best(self, contestant: str) -> Run:
        """Return the run of the comparison with the lowest last validation loss."""
        runs = [run for run in self.compared(contestant) if self.points(run)]
        return min(runs, key=lambda run: self.points(run)[-1]["validation_loss"])
