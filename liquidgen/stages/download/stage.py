"""Main function of the stage download."""

from pathlib import Path

from liquidgen.config.params import Params
from liquidgen.stages.download.download import download
from liquidgen.tracking import open_run


def main(params: Params, root: Path) -> str:
    """Write the images of the selected dataset into data/raw/<dataset>, and record the run."""
    name = params.selectors.dataset
    recorded = params.flat("dataset", "download")
    with open_run(root, params.tracking.experiment, "download", name=name, params=recorded) as run:
        info = download(
            params.dataset,
            params.download,
            params.raw_folder,
            num_workers=params.machine.num_workers,
        )
        run.log_metrics(info.figures(), step=0)
        run.log_dataset(name, info.digest[:16], info.origin)
    return f"download: {info.summary()} in {params.raw_folder}"
