"""What the stage sample does, recorded: images from the model."""

from pathlib import Path

from liquidgen.compute.distributed import init_distributed
from liquidgen.config.params import Params
from liquidgen.stages.sample.sample import GRID, sample
from liquidgen.tracking import open_run
from liquidgen.tracking.run_file import read_run


def main(params: Params, root: Path) -> str | None:
    """Fill data/samples/<run>."""
    model, folder = params.model_folder, params.samples_folder
    with init_distributed(params.machine.device) as (world, device):
        if not world.is_main:
            return sample(model, folder, settings=params.sample, device=device, world=world)
        with open_run(
            root,
            params.tracking.experiment,
            "sample",
            name=f"sample {params.run_name}",
            params=params.flat("sample"),
            parent=read_run(model),
        ) as run:
            grid = sample(model, folder, settings=params.sample, device=device, world=world)
            run.log_image(grid, "samples", step=0, on_parent=True)
    return f"sample: {params.sample.num_images} images in {folder}, look at {folder / GRID}"
