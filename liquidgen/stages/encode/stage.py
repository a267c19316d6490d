"""What the stage encode does, recorded: raw images to latent shards."""

from functools import partial
from pathlib import Path

from liquidgen.compute.distributed import init_distributed
from liquidgen.config.params import Params
from liquidgen.stages.encode.encode import encode
from liquidgen.tracking import open_run


def main(params: Params, root: Path) -> str | None:
    """Fill data/latents/<dataset>-<size>-<autoencoder>."""
    folder = params.latents_folder
    recorded = params.flat("dataset", "autoencoder", "encode")
    with init_distributed(params.machine.device) as (world, device):
        work = partial(
            encode,
            params.raw_folder,
            folder,
            work_folder=root / "work/encode",
            autoencoder_settings=params.autoencoder,
            image_size=params.selectors.image_size,
            settings=params.encode,
            device=str(device),
            num_workers=params.machine.num_workers,
            world=world,
        )
        if not world.is_main:
            return work()
        with open_run(
            root, params.tracking.experiment, "encode", name=folder.name, params=recorded
        ) as run:
            manifest = work()
            run.log_metrics(manifest.metrics(), step=0)
            run.log_dataset(folder.name, manifest.digest[:16], str(params.raw_folder))
    return f"encode: {manifest.summary()} in {folder}"
