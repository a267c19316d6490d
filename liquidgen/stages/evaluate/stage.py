"""Stage evaluate: score the samples, record the scores, and write the page about the run."""

import logging
from itertools import chain
from pathlib import Path

from liquidgen.compute.distributed import init_distributed
from liquidgen.config.changes import changes_since_commit
from liquidgen.config.params import Params
from liquidgen.figures import GRID
from liquidgen.generator.run_file import read_run
from liquidgen.report.reports import STAGE_PATIENCE, WORKSPACE_PAGE, report_workspace
from liquidgen.stages.evaluate.evaluate import evaluate
from liquidgen.stages.evaluate.feature_cache import FOLDER
from liquidgen.tracking import open_run
from liquidgen.utils.errors import reason_of

logger = logging.getLogger("liquidgen.report")


def main(params: Params, root: Path) -> str | None:
    """Fill metrics/evaluate.json and data/evaluation/<run>; returns the closing line on rank 0."""
    changes = changes_since_commit(params)
    with (
        init_distributed(params.machine.device) as (world, device),
        open_run(
            root,
            params.tracking.experiment,
            "evaluate",
            name=f"evaluate {changes.name} {changes.later}".strip(),
            params=params.flat("sample", "evaluate"),
            changes=changes,
            parent=read_run(params.model_folder),
            enabled=world.is_main,
        ) as run,
    ):
        scores = evaluate(
            params.samples_folder,
            params.raw_folder,
            params.latents_folder,
            params.evaluation_folder,
            settings=params.evaluate,
            device=device,
            world=world,
            cache_folder=root / FOLDER,
        )
        if scores is None:  # on ranks > 0
            return None
        path = params.metrics_folder / "evaluate.json"
        scores.write(path)
        run.log_metrics(scores.values, step=0)
        run.log_to_parent(scores.values)
        # other settings of evaluate are another row, which has no samples yet
        run.log_image(params.samples_folder / GRID, "samples", step=0, on_parent=True)
        figures = (params.evaluation_folder.glob(f"*{suffix}") for suffix in (".csv", ".png"))
        for file in (path, *sorted(chain(*figures))):
            run.log_artifact(file)
    write_page(params, root)  # after the run has ended, which MLflow then has
    return f"evaluate: {scores.summary()} in {path}"


def write_page(params: Params, root: Path) -> None:
    """Write the page about the run; the scores are there, whatever happens to it.

    `dvc exp run --temp` and `--queue` run in a copy of the checkout: theirs is not the run of the
    workspace, and has no page.
    """
    if Path.cwd() != root:
        return
    try:
        report_workspace(params, root, STAGE_PATIENCE, is_recorded=False)
    except Exception as error:
        logger.warning(
            "%s was not written: %s; `liquidgen compare` tries again",
            WORKSPACE_PAGE,
            reason_of(error),
        )
