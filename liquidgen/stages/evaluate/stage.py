"""Stage evaluate: score the samples, and record the scores."""

from pathlib import Path

from liquidgen.compute.distributed import init_distributed
from liquidgen.config.changes import changes_since_commit
from liquidgen.config.params import Params
from liquidgen.figures.grid import GRID
from liquidgen.generator.run_file import read_run
from liquidgen.stages.evaluate.evaluate import evaluate, write_scores
from liquidgen.tracking import open_run


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
        )
        if scores is None:  # on ranks > 0
            return None
        write_scores(params.metrics_folder / "evaluate.json", scores)
        run.log_metrics(scores.values, step=0)
        run.log_to_parent(scores.values)
        # other settings of evaluate are another row, which has no samples yet
        run.log_image(params.samples_folder / GRID, "samples", step=0, on_parent=True)
        for figure in sorted(params.evaluation_folder.glob("*.png")):
            run.log_artifact(figure)
    return f"evaluate: {scores.summary()} in {params.metrics_folder / 'evaluate.json'}"
