"""Makes the pages: of the run in the workspace, and of chosen runs."""

from functools import partial
from pathlib import Path
from typing import NamedTuple

from liquidgen.config.params import PARAMS, Params
from liquidgen.report.facts import RunFacts
from liquidgen.report.page import Page, write_page
from liquidgen.report.recorded import RecordedRuns, is_evaluated
from liquidgen.report.workspace import changed_since, committed_params, workspace_run
from liquidgen.tracking.address import reason, tracking_uri, without_secrets
from liquidgen.tracking.store import prepare
from liquidgen.utils.deadline import within
from liquidgen.utils.errors import UserError
from liquidgen.utils.text import listed

WORKSPACE_PAGE = Path("reports/index.html")
CHOSEN_PAGE = Path("reports/compare.html")
NUM_PICTURED = 5  # other runs with their grids
NUM_LISTED = 15  # more of them, in the table
STAGE_PATIENCE = 30.0  # seconds that a stage waits for MLflow at its end
PATIENCE = 60.0  # seconds that a command waits


class _Others(NamedTuple):
    main: RunFacts
    others: list[RunFacts]
    listed: list[RunFacts]


def report_workspace(
    params: Params, root: Path, patience: float = PATIENCE, *, is_recorded: bool = True
) -> Path:
    """Write the page of the run that params.yaml selects, beside the newest other runs.

    It is also written if MLflow does not answer, and then says so.

    Args:
        params: All settings.
        root: Root of the checkout, which is the current folder.
        patience: Seconds that MLflow may take.
        is_recorded: Whether dvc.lock has the run: DVC writes the section of a stage after it.

    Returns:
        The page.

    Raises:
        UserError: The run was not evaluated, or a file of it is damaged.
        OSError: The page cannot be written.
    """
    main = workspace_run(params)
    notes = []
    if is_recorded and (changed := changed_since(params)):
        notes.append(
            f"{PARAMS} has other values by now than this run had: {listed(changed, quotes=False)}. "
            "`dvc repro` runs what depends on them."
        )
    experiment = params.tracking.experiment
    found = _Others(main, [], [])
    try:
        prepare(root)  # takes seconds whether or not MLflow answers
        found = within(patience, partial(_beside, main, root, experiment))
    except Exception as error:
        notes.append(
            f"Other runs are missing here: MLflow cannot read {_store(root)} "
            f"({reason(error)}). `liquidgen compare` writes the page again."
        )
    page = Page(
        title=f"{experiment}: the run of the workspace",
        main=found.main,
        others=found.others,
        listed=found.listed,
        before=_before(found, params),
        notes=notes,
    )
    write_page(root / WORKSPACE_PAGE, page)
    return root / WORKSPACE_PAGE


def report_chosen(names: list[str], root: Path, experiment: str) -> Path:
    """Write the page of runs that MLflow has: the first in full, the others beside it.

    Args:
        names: Ids or names, or how they begin.
        root: Root of the checkout.
        experiment: Name of the MLflow experiment.

    Returns:
        The page.

    Raises:
        UserError: There is no such run, a name is of several, or MLflow does not answer.
        OSError: The page cannot be written.
    """
    main, *others = _answered(root, partial(_chosen, names, root, experiment))
    page = Page(
        title=f"{experiment}: {len(others) + 1} runs" if others else f"{experiment}: one run",
        main=main,
        others=others,
        before=(others[0].params, others[0].name) if others else None,
    )
    write_page(root / CHOSEN_PAGE, page)
    return root / CHOSEN_PAGE


def recorded_runs(root: Path, experiment: str) -> list[RunFacts]:
    """Return the runs that MLflow has, the newest first, without curves and figures.

    Raises:
        UserError: MLflow does not answer.
    """
    return _answered(root, partial(_summaries, root, experiment))


def _beside(main: RunFacts, root: Path, experiment: str) -> _Others:
    runs = RecordedRuns(root, experiment)
    own = runs.row_of(main)
    others = [row for row in runs.rows if row is not own]
    # one that is running, or failed, has nothing to show yet
    pictured = [row for row in others if is_evaluated(row)][:NUM_PICTURED]
    more = [row for row in others if row not in pictured][:NUM_LISTED]
    return _Others(
        runs.identified(main, own),
        [runs.facts(row) for row in pictured],
        [runs.summary(row) for row in more],
    )


def _chosen(names: list[str], root: Path, experiment: str) -> list[RunFacts]:
    runs = RecordedRuns(root, experiment)
    rows = runs.choose(names)
    return [runs.facts(row, details=number == 0) for number, row in enumerate(rows)]


def _summaries(root: Path, experiment: str) -> list[RunFacts]:
    runs = RecordedRuns(root, experiment)
    return [runs.summary(row) for row in runs.rows]


def _before(found: _Others, params: Params) -> tuple[dict[str, str], str] | None:
    """Return the settings that the run's are compared with: of the newest other run, if any."""
    if found.others:
        return found.others[0].params, f"run 1, {found.others[0].name}"
    committed = committed_params(params)
    return None if committed is None else (committed, f"{PARAMS} of the last commit")


def _answered(root: Path, call: partial) -> list[RunFacts]:
    try:
        prepare(root)
        return within(PATIENCE, call)
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"MLflow cannot read {_store(root)}: {reason(error)}") from error


def _store(root: Path) -> str:
    return without_secrets(tracking_uri(root))
