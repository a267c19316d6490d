"""`liquidgen compare`: one page about runs side by side."""

from typing import Annotated

from typer import Argument, Option

from liquidgen.cli.ui import open_in_browser
from liquidgen.config.params import load_params
from liquidgen.config.paths import project_root
from liquidgen.runtime.extras import require_extra
from liquidgen.utils.errors import UserError
from liquidgen.utils.text import one_line

Runs = Annotated[
    list[str] | None,
    Argument(
        metavar="[RUN]...",
        help="Ids or names of runs in MLflow, or how they begin, the one to show in full first; "
        "default: the run of the workspace, beside the newest others.",
    ),
]
List = Annotated[bool, Option("--list", help="List the runs that can be named.")]
SCORES = ("kid", "class_accuracy", "validation_loss")
HEADER = ("id", "started", "status", *SCORES, "name")


def run(runs: Runs = None, list_runs: List = False) -> None:
    """Write a page about runs side by side, as one file that needs no network."""
    require_extra("pipeline")
    # matplotlib and MLflow take seconds to import, and `liquidgen --help` needs neither
    from liquidgen.report.reports import report_chosen, report_workspace

    params = load_params()
    root = project_root()
    experiment = params.tracking.experiment
    if list_runs:
        if runs:
            raise UserError("--list lists all runs: give it no names, or leave it out")
        _print_runs(experiment)
        return
    page = report_chosen(runs, root, experiment) if runs else report_workspace(params, root)
    print(page, flush=True)
    open_in_browser(page.as_uri())


def _print_runs(experiment: str) -> None:
    from liquidgen.report.recorded import SHORT_ID
    from liquidgen.report.reports import recorded_runs

    rows: list[tuple[str, ...]] = [HEADER]
    for one in recorded_runs(project_root(), experiment):
        values = [one.value(name) for name in SCORES]
        started = one.started.strftime("%Y-%m-%d %H:%M") if one.started else ""
        cells = ["" if value is None else f"{value:.4g}" for value in values]
        identity = one.run_id[:SHORT_ID], started, one.status.lower()
        rows.append((*identity, *cells, one_line(one.name)))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(map(str.ljust, row, widths)).rstrip())
