"""Renders the page: one file, whose styles, script and pictures are all inside it."""

import base64
import hashlib
import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

from liquidgen.report.facts import VALIDATION_LOSS, RunFacts, Score, differences
from liquidgen.report.pictures import chart, webp
from liquidgen.score_names import CLASS_ACCURACY, LOWER_IS_BETTER
from liquidgen.utils.files import atomic

MAIN_PIXELS, OTHER_PIXELS = 2_500_000, 900_000  # of a picture; larger ones are scaled down
COLUMNS = ("kid", "fd_pca", "fd", CLASS_ACCURACY, VALIDATION_LOSS)  # of the table of runs
LEGEND_WIDTH = 44  # characters per line of a run's name beside a curve
SELECTORS = "selected blocks"  # the section of settings without a section


@dataclass(frozen=True)
class Page:
    """What is on a page.

    Attributes:
        title: Heading.
        main: The run that is shown in full.
        others: Runs with pictures, beside it.
        listed: More runs, in the table only.
        before: Settings that the run's are compared with, and whose they are; None: no others.
        notes: What the reader must know about the page: one line each.
    """

    title: str
    main: RunFacts
    others: Sequence[RunFacts] = ()
    listed: Sequence[RunFacts] = ()
    before: tuple[dict[str, str], str] | None = None
    notes: Sequence[str] = ()


def write_page(path: Path, page: Page) -> None:
    """Write a page as one file.

    Raises:
        OSError: It cannot be written.
    """
    html = render(page)
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic(path) as file:
        file.write(html.encode("utf-8", "replace"))  # names may hold bytes that are not UTF-8


def render(page: Page) -> str:
    """Return a page as HTML."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("liquidgen.report", "template"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["figure"] = figure
    runs = [page.main, *page.others]
    before, before_name = page.before or ({}, "")
    read = partial(_asset, environment)
    return environment.get_template("page.html").render(
        page=page,
        written=datetime.now(),
        style=read("style.css"),
        script=read("script.js"),
        script_digest=_digest(read("script.js")),
        grids=[
            _picture(page.main.grid, MAIN_PIXELS),
            *(_picture(run.grid, OTHER_PIXELS) for run in page.others),
        ],
        neighbors=_picture(page.main.neighbors, MAIN_PIXELS),
        charts=_charts(page),
        scores=[(score, _places(score, runs)) for score in page.main.floors()],
        columns=_columns([*runs, *page.listed]),
        rows=_rows(page),
        sections=_sections(page.main.params),
        selectors=SELECTORS,
        changed=differences(page.main.params, before),
        before=before_name,
        differ=[differences(run.params, page.main.params) for run in page.others],
        other_seed=[_differs(run, page.main, "sample.seed") for run in page.others],
    )


def figure(value: float | None) -> str:
    """Return a number as the page shows it; nothing for no number."""
    if value is None:
        return ""
    if value.is_integer() and abs(value) < 1e15:
        return f"{int(value):,}"
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"


def _asset(environment: Any, name: str) -> str:
    return environment.loader.get_source(environment, name)[0]


def _digest(script: str) -> str:
    """Return what the page's own rule names as the only script that may run in it."""
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def _picture(png: bytes | None, max_pixels: int) -> tuple[str, int, int] | None:
    try:
        return None if png is None else webp(png, max_pixels)
    except (OSError, SyntaxError, ValueError):  # of Pillow, for a damaged file
        return None


def _charts(page: Page) -> list[tuple[str, str]]:
    """Return titles and charts: the losses, the losses by t, and the losses of all runs."""
    curves = page.main.curves
    by_t = {
        name.removeprefix(f"{VALIDATION_LOSS}_").replace("t", "t ", 1): points
        for name, points in curves.items()
        if name.startswith(f"{VALIDATION_LOSS}_t") and points
    }
    losses = {name: curves[name] for name in ("loss", VALIDATION_LOSS) if curves.get(name)}
    runs = {
        textwrap.fill(f"{number or 'this'}: {run.name}", LEGEND_WIDTH): run.curves[VALIDATION_LOSS]
        for number, run in enumerate([page.main, *page.others])
        if run.curves.get(VALIDATION_LOSS)
    }
    found = {"loss": losses, "validation loss by time t": by_t}
    if len(runs) > 1:
        found["validation loss of the runs"] = runs
    faint = frozenset(list(runs)[1:])
    return [(title, chart(shown, faint)) for title, shown in found.items() if shown]


def _places(score: Score, runs: Sequence[RunFacts]) -> list[tuple[str, float]]:
    """Return where a score of other runs is between noise and real images, by the runs' names."""
    main, *others = runs
    found = []
    for run in others:
        value = run.scores.get(score.name)
        place = None if value is None else score.place(value)
        if place is not None and run.compares(main, score.name):
            found.append((f"{run.name}: {figure(value)}", place))
    return found


def _rows(page: Page) -> list[dict[str, Any]]:
    """Return the rows of the table of runs, with the best value of each column marked."""
    main = page.main
    runs = [main, *page.others, *page.listed]
    best = {}
    for name in COLUMNS:
        values = [run.value(name) for run in runs if run.compares(main, name)]
        known = [value for value in values if value is not None and math.isfinite(value)]
        if len(set(known)) > 1:
            lowest = name in (*LOWER_IS_BETTER, VALIDATION_LOSS)
            best[name] = min(known) if lowest else max(known)
    return [
        {
            "run": run,
            "cells": [
                {
                    "value": run.value(name),
                    "best": run.value(name) == best.get(name) and run.compares(main, name),
                    "compares": run.compares(main, name),
                }
                for name in _columns(runs)
            ],
            "changes": differences(run.params, main.params),
        }
        for run in runs
    ]


def _columns(runs: Sequence[RunFacts]) -> list[str]:
    return [name for name in COLUMNS if any(run.value(name) is not None for run in runs)]


def _sections(params: dict[str, str]) -> dict[str, dict[str, str]]:
    """Return the settings by section."""
    sections: dict[str, dict[str, str]] = {}
    for key, value in params.items():
        section, _, name = key.rpartition(".")
        sections.setdefault(section or SELECTORS, {})[name] = value
    return sections


def _differs(run: RunFacts, other: RunFacts, key: str) -> bool:
    return key in differences(run.params, other.params)
