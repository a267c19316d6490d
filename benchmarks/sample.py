"""Time of sampling against bare forward passes of the network: both in turns, in one run.

    python -m benchmarks.sample --model nano --images 400 --rounds 3

The bare forward passes run on ready tensors, with the same number of calls and batch sizes as
sampling (guidance doubles the batches). Sampling is the function of the stage: noise, solver,
guidance, PNG images in Parquet files, and the grid. The time of the decoder is subtracted and
printed separately. Loading the model and the autoencoder is in neither. `--solver`, `--steps` and
`--batch` replace settings of params.yaml; use euler, dpm or unipc, which call the network once per
step.
"""

import argparse
import tempfile
import time
from pathlib import Path
from statistics import median

import torch

import liquidgen.stages.sample.sample
from benchmarks.preparation import make_latents, prepare, wait_for
from liquidgen.compute.device import resolve_device
from liquidgen.config.params import load_params
from liquidgen.config.settings import SampleSettings
from liquidgen.generator.model_folder import ModelMetadata, load_model, save_model
from liquidgen.latents.autoencoder import load_autoencoder
from liquidgen.models.liquidnet import LiquidNet


class TimedAutoencoder:
    """Wraps an autoencoder, and records when it was made and how long it decoded."""

    def __init__(self, autoencoder: object) -> None:
        self._autoencoder = autoencoder
        self.digest = autoencoder.digest
        self.made = time.perf_counter()
        self.seconds = 0.0

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """Decode, and add the time to `seconds`."""
        wait_for(latents.device)
        started = time.perf_counter()
        pixels = self._autoencoder.decode(latents)
        wait_for(latents.device)
        self.seconds += time.perf_counter() - started
        return pixels


def make_model(folder: Path, params: object) -> Path:
    """Save an untrained network, which costs as much as a trained one; return its folder."""
    training = prepare(folder, make_latents(folder, params, 200), params, 1)
    model = LiquidNet(**training.network)
    metadata = ModelMetadata(
        name="benchmark",
        classes=training.dataset.classes,
        contract=training.dataset.contract,
        dataset="procedural",
        license="drawn by this project",
        latents_digest=training.dataset.manifest.digest,
        recipe=params.train.model_dump(),
        num_epochs=0,
        num_steps=0,
        parameters=model.num_parameters(),
    )
    save_model(folder / "model", model, metadata, "none")
    return folder / "model"


@torch.inference_mode()
def bare(model_folder: Path, settings: SampleSettings, device: torch.device) -> float:
    """Return the seconds of the forward passes alone."""
    model, metadata = load_model(model_folder)
    model = model.to(device, memory_format=torch.channels_last)
    copies = 2 if settings.guidance_scale > 1 else 1
    sizes = [
        copies * min(settings.batch_size, settings.num_images - start)
        for start in range(0, settings.num_images, settings.batch_size)
    ]
    ready = {
        size: (
            torch.randn(size, *metadata.contract.latent_shape, device=device),
            torch.rand(size, device=device),
            torch.zeros(size, dtype=torch.int64, device=device),
        )
        for size in set(sizes)
    }
    model(*ready[sizes[0]])
    wait_for(device)
    started = time.perf_counter()
    for size in sizes:
        for _ in range(settings.num_inference_steps):
            model(*ready[size])
    wait_for(device)
    return time.perf_counter() - started


def staged(
    model_folder: Path, folder: Path, settings: SampleSettings, device: torch.device
) -> tuple[float, float]:
    """Seconds of the sampling without decoding, and of decoding."""
    made = []

    def load(*arguments: object) -> TimedAutoencoder:
        made.append(TimedAutoencoder(load_autoencoder(*arguments)))
        return made[0]

    liquidgen.stages.sample.sample.load_autoencoder = load
    liquidgen.stages.sample.sample.sample(model_folder, folder, settings=settings, device=device)
    ended = time.perf_counter()
    liquidgen.stages.sample.sample.load_autoencoder = load_autoencoder
    return ended - made[0].made - made[0].seconds, made[0].seconds


def main() -> None:
    """Print one line per round, and the median of the ratios."""
    defaults = load_params()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default=defaults.selectors.model)
    parser.add_argument("--images", type=int, default=400)
    parser.add_argument("--batch", type=int, default=defaults.sample.batch_size)
    parser.add_argument("--steps", type=int, default=defaults.sample.num_inference_steps)
    parser.add_argument("--solver", default=defaults.sample.solver)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    params = load_params(changes={"model": options.model})
    device = resolve_device(params.machine.device)
    settings = params.sample.model_copy(
        update={
            "num_images": options.images,
            "batch_size": options.batch,
            "num_inference_steps": options.steps,
            "solver": options.solver,
        }
    )
    ratios = []
    with tempfile.TemporaryDirectory() as name:
        model_folder = make_model(Path(name), params)
        for _ in range(options.rounds):
            before = bare(model_folder, settings, device)
            sampling, decoding = staged(model_folder, Path(name) / "samples", settings, device)
            after = bare(model_folder, settings, device)
            ratios.append((before + after) / 2 / sampling)
            print(
                f"forwards {before:.1f} and {after:.1f} s, sampling {sampling:.1f} s: "
                f"ratio {ratios[-1]:.3f}; decoding {decoding:.2f} s"
            )
    print(f"median ratio {median(ratios):.3f}")


if __name__ == "__main__":
    main()
