"""Stage encode: encode raw images to latent shards, and record them."""

from pathlib import Path

from liquidgen.cluster.connection import cluster_of
from liquidgen.compute.distributed import init_distributed
from liquidgen.config.params import Params
from liquidgen.images.skipped import SkippedImages
from liquidgen.stages.encode.encode import encode
from liquidgen.tracking import open_run
from liquidgen.utils.files import NOTED, SKIPPED


def main(params: Params, root: Path) -> str | None:
    """Fill data/latents/<dataset>-<size>-<autoencoder>; returns the closing line on rank 0."""
    folder = params.latents_folder
    machine = params.machine
    with (
        cluster_of(machine) as cluster,
        init_distributed("cpu" if cluster else machine.device) as (world, device),
        open_run(
            root,
            params.tracking.experiment,
            "encode",
            name=folder.name,
            params=params.flat("dataset", "autoencoder", "encode"),
            enabled=world.is_main,
        ) as run,
    ):
        manifest = encode(
            params.raw_folder,
            folder,
            work_folder=root / "work/encode",
            autoencoder_settings=params.autoencoder,
            image_size=params.selectors.image_size,
            settings=params.encode,
            device=str(device),
            num_workers=machine.num_workers,
            world=world,
            cluster=cluster,
        )
        if manifest is None:  # on ranks > 0
            return None
        run.log_metrics(manifest.metrics(), step=0)
        run.log_dataset(folder.name, manifest.digest[:16], str(params.raw_folder))
        for path in (folder / SKIPPED, folder / NOTED):
            if path.exists():
                run.log_artifact(path)
    return f"encode: {manifest.summary()} in {folder}{SkippedImages.read(folder).examples(folder)}"
