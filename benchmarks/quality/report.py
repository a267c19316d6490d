"""Results of a comparison: raw points, tables, plots."""

import json
from collections.abc import Callable, Sequence
from itertools import chain
from statistics import median

import numpy as np

from benchmarks.quality.field import LIQUIDNET, Field
from benchmarks.quality.plan import Plan, Standing
from benchmarks.quality.run import Run
from benchmarks.quality.scores import read_scores
from liquidgen.score_names import NOISE, real_name
from liquidgen.utils.files import atomic

BUDGETS = (60, 120, 240, 480, 960, 1920, 3840, 7680, 15360)  # CPU seconds
QUARTERS = ("t0.00-0.25", "t0.25-0.50", "t0.50-0.75", "t0.75-1.00")
SCORES = ("kid", "fd", "class_accuracy", "precision", "recall")


def write_report(plan: Plan) -> None:
    """Write points.jsonl, report.md and the plots, of what has been measured so far."""
    standing = Standing(plan)
    searched = [name for name in plan.contestants if standing.is_searched(name)]
    runs = {run: None for name in plan.contestants for run in standing.search(name)}
    runs |= {run: None for name in searched for run in standing.compared(name)}
    _write(plan.field, "points.jsonl", "".join(_json_lines(standing, run) for run in runs))
    results = [Result(standing, name) for name in searched]
    lines = [*_head(plan), *_search_table(standing, searched)]
    if results:
        lines += [*_budget_table(results), *_end_table(standing, results)]
        _plot(plan.field, results, "seconds", "CPU seconds", lambda r: r.per_step)
        size = plan.field.params.train.batch_size
        _plot(plan.field, results, "images_seen", "images seen", lambda result: size)
    _write(plan.field, "report.md", "\n".join([*lines, ""]))


class Result:
    """Curves of one contestant over its seeds, as far as all of these have come.

    Seconds are steps times the median seconds per step over all turns: a turn beside another
    program takes longer, and would shift a single curve.

    Attributes:
        steps: Steps at the points of the curves: (N,).
        losses: Validation losses: (seeds, N).
        ends: Last point of each seed.
    """

    def __init__(self, standing: Standing, contestant: str) -> None:
        runs = standing.compared(contestant)
        curves = [points for run in runs if (points := standing.points(run))]
        self.contestant = contestant
        self.rate = runs[0].learning_rate
        self.per_step = median(point["seconds_per_step"] for point in chain(*curves))
        length = min(map(len, curves))
        self.ends = [curve[length - 1] for curve in curves]
        self.steps = np.array([point["step"] for point in curves[0][:length]])
        self.losses = np.array([[p["validation_loss"] for p in c[:length]] for c in curves])

    @property
    def seconds(self) -> float:
        """CPU seconds at the end."""
        return float(self.steps[-1] * self.per_step)

    @property
    def medians(self) -> np.ndarray:
        """Median over the seeds: (N,)."""
        return np.median(self.losses, axis=0)

    def losses_at(self, seconds: float) -> list[float]:
        """Return the loss of each seed after so many seconds; [] beyond the curve.

        Between points it is interpolated over the logarithm of the steps: a straight line would lie
        above the curve, most of all for the contestant with the slowest steps.
        """
        if not self.steps[0] * self.per_step <= seconds <= self.seconds:
            return []
        at, points = np.log(seconds / self.per_step), np.log(self.steps)
        return [float(np.interp(at, points, losses)) for losses in self.losses]

    def seconds_to(self, loss: float) -> float | None:
        """Return the seconds after which the median is first at this loss, as in `losses_at`.

        None if it never is; the seconds of the first point if it was there before that.
        """
        medians = self.medians
        if not (reached := np.flatnonzero(medians <= loss)).size:
            return None
        i = int(reached[0])
        if i == 0:
            return float(self.steps[0] * self.per_step)
        share = (medians[i - 1] - loss) / (medians[i - 1] - medians[i])
        before, after = self.steps[i - 1], self.steps[i]
        return float(before * (after / before) ** share * self.per_step)


def _json_lines(standing: Standing, run: Run) -> str:
    identity = {name: getattr(run, name) for name in ("contestant", "learning_rate", "seed")}
    return "".join(f"{json.dumps(identity | point)}\n" for point in standing.points(run))


def _head(plan: Plan) -> list[str]:
    field = plan.field
    s = field.params.selectors
    return [
        f"# {field.folder.name}",
        "",
        f"{s.dataset} at {s.image_size} px, autoencoder {s.autoencoder}: {field.tokens} tokens, "
        f"{len(field.dataset)} training latents; size {s.model}, batches of "
        f"{field.params.train.batch_size}, seeds {', '.join(map(str, plan.seeds))}. Of all "
        "settings only the learning rate is searched per contestant; the others are LiquidNet's: "
        f"{field.params.train.optimizer}, {field.params.train.warmup_steps} steps of warm-up. "
        "Losses between two measurements are interpolated over the logarithm of the steps. "
        "`t0.00-0.25` and the like are the loss by quarter of t, where 0 is data.",
    ]


def _search_table(standing: Standing, searched: Sequence[str]) -> list[str]:
    lines = ["", "Search of the learning rate, validation loss at the last common step:", ""]
    lines += ["| contestant | step | loss by rate | best |", "|---|---|---|---|"]
    for name in standing.plan.contestants:
        if name not in searched:
            lines.append(f"| {name} | under way | | |")
            continue
        runs = standing.search(name)
        losses = standing.search_losses(runs)
        pairs = zip(runs, losses, strict=True)
        listed = ", ".join(f"{run.learning_rate:g}: {loss:.4f}" for run, loss in pairs)
        best = standing.best_rate(name)
        lines.append(f"| {name} | {standing.search_step(runs)} | {listed} | {best:g} |")
    return lines


def _budget_table(results: Sequence[Result]) -> list[str]:
    names = [result.contestant for result in results]
    lines = ["", "Validation loss at equal CPU seconds, median over seeds (lowest to highest):", ""]
    lines += [f"| seconds | {' | '.join(names)} |", "|---" * (len(names) + 1) + "|"]
    common = min(result.seconds for result in results)
    for budget in sorted({*BUDGETS, common}):
        losses = [result.losses_at(budget) for result in results]
        if any(losses):
            lines.append(f"| {budget:.5g} | {' | '.join(map(_band, losses))} |")
    return lines


def _band(losses: Sequence[float]) -> str:
    if not losses:
        return "-"
    return f"{median(losses):.4f} ({min(losses):.4f} to {max(losses):.4f})"


def _end_table(standing: Standing, results: Sequence[Result]) -> list[str]:
    """Losses at the end by quarter of t, LiquidNet's seconds to the same loss, and scores."""
    plan = standing.plan
    liquid = next((result for result in results if result.contestant == LIQUIDNET), None)
    titles = ["contestant", "parameters", "seeds", "ms per step", "seconds", "images", "loss"]
    titles += [*QUARTERS, "best loss after", "LiquidNet there after", *SCORES]
    lines = ["", "At the end of each, median over seeds; scores of the best seed:", ""]
    lines += [f"| {' | '.join(titles)} |", "|---" * len(titles) + "|"]
    for result in results:
        best = float(result.medians.min())
        own = result.seconds_to(best)
        scores = read_scores(standing, result.contestant)
        quarters = [
            median(end[f"validation_loss_{name}"] for end in result.ends) for name in QUARTERS
        ]
        cells = [
            result.contestant,
            f"{plan.field.count_parameters(result.contestant) / 1e6:.2f} M",
            f"{len(result.ends)}",
            f"{1000 * result.per_step:.0f}",
            f"{result.seconds:.0f}",
            f"{result.steps[-1] * plan.field.params.train.batch_size}",
            f"{result.medians[-1]:.4f}",
            *(f"{loss:.4f}" for loss in quarters),
            f"{best:.4f}, {own:.0f} s",
            _sooner(liquid, best, own) if liquid and result is not liquid else "",
            *(_score(scores, name) for name in SCORES),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _sooner(liquid: Result, loss: float, seconds: float) -> str:
    needed = liquid.seconds_to(loss)
    if needed is None:
        return f"not within {liquid.seconds:.0f} s"
    return f"{needed:.0f} s: factor {seconds / needed:.2f}"


def _score(scores: dict | None, name: str) -> str:
    if scores is None or name not in scores:
        return "-"
    floor = scores[real_name(name)]
    return f"{scores[name]:.4g} (real {floor:.4g}, noise {scores[NOISE + name]:.4g})"


def _plot(
    field: Field,
    results: Sequence[Result],
    name: str,
    label: str,
    per_step: Callable[[Result], float],
) -> None:
    """Draw the median over seeds as a line, and the lowest to the highest as a band."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.subplots()
    for result in results:
        x = result.steps * per_step(result)
        text = f"{result.contestant}, learning rate {result.rate:g}"
        (line,) = axes.plot(x, result.medians, label=text)
        low, high = result.losses.min(axis=0), result.losses.max(axis=0)
        axes.fill_between(x, low, high, color=line.get_color(), alpha=0.2)
    axes.set(xscale="log", yscale="log", xlabel=label, ylabel="validation loss")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.xaxis.set_minor_formatter("")
    axes.yaxis.set_major_locator(MaxNLocator(8))
    axes.yaxis.set_major_formatter("{x:.2f}")
    axes.yaxis.set_minor_locator(NullLocator())
    axes.set_title(f"{field.folder.name}: median and range over seeds")
    axes.grid(which="both", alpha=0.3)
    axes.legend()
    with atomic(field.folder / f"{name}.png") as file:
        figure.savefig(file, format="png", dpi=120)


def _write(field: Field, name: str, text: str) -> None:
    with atomic(field.folder / name) as file:
        file.write(text.encode())
