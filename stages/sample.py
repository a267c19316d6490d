"""Stage sample: images from the model."""

from pathlib import Path

from liquidgen.config import Params
from liquidgen.device import resolve_device
from liquidgen.runs import read_run
from liquidgen.sample import GRID, sample
from liquidgen.stage import run_stage
from liquidgen.tracking import open_run


def main(params: Params, root: Path) -> str:
    """Fill data/samples/<run>."""
    folder = params.samples_folder
    with open_run(
        root,
        params.tracking.experiment,
        "sample",
        name=f"sample {params.run_name}",
        params=params.flat("sample"),
        parent=read_run(params.model_folder),
    ) as run:
        grid = sample(
            params.model_folder,
            folder,
            settings=params.sample,
            device=resolve_device(params.machine.device),
        )
        run.log_image(grid, "samples", step=0, on_parent=True)
    return f"sample: {params.sample.num_images} images in {folder}, look at {folder / GRID}"


if __name__ == "__main__":
    run_stage(main)
