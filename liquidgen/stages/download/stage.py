"""Stage download: download the selected dataset unchanged, and record it."""

from pathlib import Path

from liquidgen.config.params import Params
from liquidgen.images.skipped import SkippedImages
from liquidgen.stages.download.download import download
from liquidgen.tracking import open_run
from liquidgen.utils.files import SKIPPED


def main(params: Params, root: Path) -> str:
    """Fill data/raw/<dataset>; returns the closing line."""
    name = params.selectors.dataset
    with open_run(
        root,
        params.tracking.experiment,
        "download",
        name=name,
        params=params.flat("dataset", "download"),
    ) as run:
        info = download(
            params.dataset,
            params.download,
            params.raw_folder,
            num_workers=params.machine.num_workers,
        )
        run.log_metrics(info.metrics(), step=0)
        run.log_dataset(name, info.digest[:16], info.origin)
        skipped = SkippedImages.read(params.raw_folder)
        if skipped.entries:
            run.log_artifact(params.raw_folder / SKIPPED)
    folder = params.raw_folder
    return f"download: {info.summary()} in {folder}{skipped.examples(folder)}"
