"""Stage sample: generate images with the model, and record a grid of them."""

from pathlib import Path

from liquidgen.cluster.connection import cluster_of
from liquidgen.compute.distributed import init_distributed
from liquidgen.config.changes import changes_since_commit
from liquidgen.config.params import Params
from liquidgen.figures import GRID
from liquidgen.generator.run_file import read_run
from liquidgen.stages.sample.sample import sample
from liquidgen.tracking import open_run


def main(params: Params, root: Path) -> str | None:
    """Fill data/samples/<run>; returns the closing line on rank 0."""
    folder = params.samples_folder
    changes = changes_since_commit(params)
    machine = params.machine
    with (
        cluster_of(machine) as cluster,
        init_distributed("cpu" if cluster else machine.device) as (world, device),
        open_run(
            root,
            params.tracking.experiment,
            "sample",
            name=f"sample {changes.name} {changes.later}".strip(),
            params=params.flat("sample"),
            changes=changes,
            parent=read_run(params.model_folder),
            enabled=world.is_main,
        ) as run,
    ):
        grid = sample(
            params.model_folder,
            folder,
            settings=params.sample,
            device=device,
            world=world,
            cluster=cluster,
            work_folder=root / "work/sample",
        )
        if grid is None:  # on ranks > 0
            return None
        run.log_image(grid, "samples", step=0, on_parent=True)
    return f"sample: {params.sample.num_images} images in {folder}, look at {folder / GRID}"
