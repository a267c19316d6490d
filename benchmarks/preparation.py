"""What benchmarks share: their options and errors, latents, and a training."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from ruamel.yaml import YAML, YAMLError

from liquidgen.compute.device import resolve_device
from liquidgen.config.params import Params
from liquidgen.config.settings import ProceduralSettings
from liquidgen.stages.download.download import download
from liquidgen.stages.encode.encode import encode
from liquidgen.stages.train.run_state import Training, prepare_training
from liquidgen.utils.errors import UserError
from liquidgen.utils.files import write_json
from liquidgen.utils.image_size import sides


def run_command(main: Callable[[], None]) -> None:
    """Run a command that goes on where it was stopped, with errors of one line."""
    try:
        main()
    except UserError as error:
        raise SystemExit(f"error: {error}") from None
    except KeyboardInterrupt:
        raise SystemExit("stopped; the same command goes on") from None


def changes(pairs: Sequence[str]) -> dict[str, object]:
    """Read KEY=VALUE pairs, with values in YAML."""
    found = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        try:
            found[key] = YAML(typ="safe").load(value)
        except YAMLError:
            equals = ""
        if not equals:
            raise UserError(f"--set {pair}: must be KEY=VALUE, such as image_size=128")
    return found


def check_settings(path: Path, settings: dict) -> None:
    """Write settings beside results, or compare them with those of earlier results.

    Raises:
        UserError: They differ.
    """
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, settings)
        return
    before, now = json.loads(path.read_bytes()), json.loads(json.dumps(settings))
    if other := _differing(before, now):
        raise UserError(f"{path}: made with other {', '.join(other)}; name another folder")


def _differing(before: dict, now: dict) -> list[str]:
    """Return the names of settings that differ, such as `train.batch_size`."""
    names: list[str] = []
    for name in sorted({*before, *now}):
        old, new = before.get(name), now.get(name)
        if isinstance(old, dict) and isinstance(new, dict):
            names += [f"{name}.{inner}" for inner in _differing(old, new)]
        elif old != new:
            names.append(name)
    return names


def make_latents(folder: Path, params: Params, images: int) -> Path:
    """Encode procedural paintings with the size and autoencoder of params.yaml."""
    dataset = ProceduralSettings(
        kind="procedural",
        license="CC0-1.0",
        num_images=images,
        render_size=max(sides(params.selectors.image_size)),
        seed=0,
        holdout_fraction=0.0625,
    )
    return make_data(folder, params.model_copy(update={"dataset": dataset}))


def make_data(folder: Path, params: Params) -> Path:
    """Download and encode the dataset of params.yaml; returns the folder of the latents."""
    download(params.dataset, params.download, folder / "raw", num_workers=2)
    return encode_raw(folder, params)


def encode_raw(folder: Path, params: Params) -> Path:
    """Encode the raw images in `folder` with the size and autoencoder of params.yaml."""
    encode(
        folder / "raw",
        folder / "latents",
        work_folder=folder / "work",
        autoencoder_settings=params.autoencoder,
        image_size=params.selectors.image_size,
        settings=params.encode,
        device=str(resolve_device(params.machine.device)),
        num_workers=2,
    )
    return folder / "latents"


def wait_for(device: torch.device) -> None:
    """Wait until a device has done its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def prepare(folder: Path, latents: Path, params: Params, epochs: int) -> Training:
    """Prepare a training of this many epochs without validation and previews."""
    quiet = {"num_epochs": epochs, "validate_every": 10**9, "preview_every": 0}
    return prepare_training(
        latents,
        folder,
        model=params.model,
        block=params.selectors.block,
        block_settings=params.block,
        settings=params.train.model_copy(update=quiet),
    )
