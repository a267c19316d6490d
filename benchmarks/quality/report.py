"""Results of a comparison: raw points, tables, plots."""

import json
from collections.abc import Callable, Sequence
from itertools import chain
from statistics import median

import numpy as np

from benchmarks.baselines import parameters
from benchmarks.quality.field import LIQUIDNET
from benchmarks.quality.plan import Plan, best_of, last_common_step
from benchmarks.quality.run import Point, Run
from benchmarks.quality.scores import read_scores
from liquidgen.utils.files import atomic

BUDGETS = (60, 120, 240, 480, 960, 1920, 3840, 7680)  # CPU seconds
QUARTERS = ("t0.00-0.25", "t0.25-0.50", "t0.50-0.75", "t0.75-1.00")
SCORES = ("kid", "fd", "class_accuracy", "precision", "recall")


def write_report(plan: Plan) -> None:
    """Write points.jsonl, report.md and the plots, of what has been measured so far."""
    runs = [run for name in plan.contestants for run in plan.search(name)]
    if finished := all(run.points() for run in runs):
        compared = {name: plan.compared(name) for name in plan.contestants}
        runs = list(dict.fromkeys([*runs, *chain.from_iterable(compared.values())]))
    with atomic(plan.field.folder / "points.jsonl") as file:
        for run in runs:
            identity = {
                "contestant": run.contestant,
                "learning_rate": run.learning_rate,
                "seed": run.seed,
            }
            for point in run.points():
                file.write(f"{json.dumps(identity | point)}\n".encode())
    if not finished:
        return
    results = [Result(plan, name, runs) for name, runs in compared.items()]
    lines = [
        *_head(plan),
        *_search_table(plan),
        *_budget_table(results),
        *_end_table(plan, results),
    ]
    with atomic(plan.field.folder / "report.md") as file:
        file.write("\n".join([*lines, ""]).encode())
    _plot(plan, results, "seconds", "CPU seconds of one core", lambda result: result.per_step)
    batch = plan.field.params.train.batch_size
    _plot(plan, results, "images", "images seen", lambda result: batch)


class Result:
    """Curves of one contestant over its seeds.

    Seconds are steps times the median seconds per step over all turns of its seeds: a turn beside
    another program takes longer, and would shift a single curve.
    """

    def __init__(self, plan: Plan, contestant: str, runs: Sequence[Run]) -> None:
        self.contestant = contestant
        self.rate = runs[0].learning_rate
        self.parameters = parameters(plan.field.network(contestant))
        self.curves = [curve for run in runs if (curve := run.points())]
        turns = chain.from_iterable(self.curves)
        self.per_step = median(point["seconds_per_step"] for point in turns)

    def losses(self, seconds: float) -> list[float]:
        """Return the validation loss of each seed that has trained so long, interpolated."""
        step = seconds / self.per_step
        return [
            float(np.interp(step, _column(curve, "step"), _column(curve, "validation_loss")))
            for curve in self.curves
            if curve[0]["step"] <= step <= curve[-1]["step"]
        ]

    def seconds_to(self, loss: float) -> float | None:
        """Return the seconds after which the median over the seeds is at this loss, or None."""
        steps = min((_column(curve, "step") for curve in self.curves), key=len)
        medians = np.median(
            [_column(curve, "validation_loss")[: len(steps)] for curve in self.curves], axis=0
        )
        reached = np.flatnonzero(medians <= loss)
        return float(steps[reached[0]] * self.per_step) if len(reached) else None


def _column(curve: Sequence[Point], key: str) -> np.ndarray:
    return np.array([point[key] for point in curve])


def _head(plan: Plan) -> list[str]:
    field = plan.field
    s = field.params.selectors
    return [
        f"# {field.folder.name}",
        "",
        f"{s.dataset} at {s.image_size} px, autoencoder {s.autoencoder}: {field.tokens} tokens, "
        f"{len(field.dataset)} training latents, size {s.model}, batches of "
        f"{field.params.train.batch_size}, seeds {', '.join(map(str, plan.seeds))}.",
    ]


def _search_table(plan: Plan) -> list[str]:
    lines = ["", "Search of the learning rate, validation loss at the last common step:", ""]
    lines += ["| contestant | step | losses by rate | best |", "|---|---|---|---|"]
    for name in plan.contestants:
        runs = plan.search(name)
        step = last_common_step(runs)
        losses = ", ".join(f"{run.learning_rate:g}: {run.losses()[step]:.4f}" for run in runs)
        best = best_of(runs)
        lines.append(f"| {name} | {step} | {losses} | {best.learning_rate:g} |")
    return lines


def _budget_table(results: Sequence[Result]) -> list[str]:
    names = [result.contestant for result in results]
    lines = ["", "Validation loss at equal CPU seconds, median over seeds (lowest to highest):", ""]
    lines += [f"| seconds | {' | '.join(names)} |", "|---" * (len(names) + 1) + "|"]
    for budget in BUDGETS:
        losses = [result.losses(budget) for result in results]
        if any(losses):
            lines.append(f"| {budget} | {' | '.join(map(_band, losses))} |")
    return lines


def _band(losses: Sequence[float]) -> str:
    if not losses:
        return "-"
    return f"{median(losses):.4f} ({min(losses):.4f} to {max(losses):.4f}; {len(losses)})"


def _end_table(plan: Plan, results: Sequence[Result]) -> list[str]:
    """Losses at the end by quarter of t, seconds that LiquidNet needs for them, and scores."""
    liquid = next((result for result in results if result.contestant == LIQUIDNET), None)
    titles = ["contestant", "parameters", "ms per step", "seconds", "images", "validation loss"]
    titles += [*QUARTERS, "LiquidNet is there after", *SCORES]
    lines = ["", "At the end of each, median over seeds; scores of the best seed:", ""]
    lines += [f"| {' | '.join(titles)} |", "|---" * len(titles) + "|"]
    for result in results:
        ends = [curve[-1] for curve in result.curves]
        step = min(end["step"] for end in ends)
        seconds = step * result.per_step
        loss = median(end["validation_loss"] for end in ends)
        sooner = liquid.seconds_to(loss) if liquid else None
        scores = read_scores(plan, result.contestant)
        cells = [
            result.contestant,
            f"{result.parameters / 1e6:.2f} M",
            f"{1000 * result.per_step:.0f}",
            f"{seconds:.0f}",
            f"{step * plan.field.params.train.batch_size}",
            f"{loss:.4f}",
            *(
                f"{median(end[f'validation_loss_{quarter}'] for end in ends):.4f}"
                for quarter in QUARTERS
            ),
            f"{sooner:.0f} s: factor {seconds / sooner:.2f}" if sooner else "-",
            *(_score(scores, name) for name in SCORES),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _score(scores: dict | None, name: str) -> str:
    if scores is None or name not in scores:
        return "-"
    floor = scores.get(f"train_{name}", scores.get("probe_accuracy"))
    return f"{scores[name]:.4g} (real {floor:.4g}, noise {scores[f'noise_{name}']:.4g})"


def _plot(
    plan: Plan,
    results: Sequence[Result],
    file_name: str,
    label: str,
    per_step: Callable[[Result], float],
) -> None:
    """Draw the median over seeds as a line, and the lowest to the highest as a band."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.subplots()
    for result in results:
        length = min(map(len, result.curves))
        x = _column(result.curves[0][:length], "step") * per_step(result)
        losses = np.array([_column(curve[:length], "validation_loss") for curve in result.curves])
        name = f"{result.contestant}, learning rate {result.rate:g}"
        (line,) = axes.plot(x, np.median(losses, axis=0), label=name)
        axes.fill_between(x, losses.min(0), losses.max(0), color=line.get_color(), alpha=0.2)
    axes.set(xscale="log", yscale="log", xlabel=label, ylabel="validation loss")
    axes.yaxis.set_minor_formatter("{x:.2f}")
    axes.set_title(f"{plan.field.folder.name}: median and range over seeds")
    axes.grid(which="both", alpha=0.3)
    axes.legend()
    with atomic(plan.field.folder / f"{file_name}.png") as file:
        figure.savefig(file, format="png", dpi=120)
