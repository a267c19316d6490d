"""The Python interface: train with the settings, code and files of the pipeline's stages."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from liquidgen.cache import latents_entry, raw_entry
from liquidgen.config.params import PARAMS, Params, load_params
from liquidgen.config.paths import project_root
from liquidgen.runtime.extras import require_extra
from liquidgen.runtime.launch import is_worker
from liquidgen.runtime.streams import lossy_output
from liquidgen.utils.errors import UserError
from liquidgen.utils.image_size import sides
from liquidgen.utils.memory import memory_errors
from liquidgen.utils.text import one_line

if TYPE_CHECKING:
    from liquidgen.stages.train.callbacks import TrainingLogger

MEMORY_ADVICE = "close other programs, or choose smaller batches, images or networks"
PACKAGE_FOLDER = Path(__file__).parent
# fields of TrainConfig (their names are a stable interface), and their keys in params.yaml
KEYS = {
    "model_size": "model",
    "dataset_preset": "dataset",
    "image_size": "image_size",
    "batch_size": "train.batch_size",
    "num_epochs": "train.num_epochs",
    "learning_rate": "train.learning_rate",
    "autoencoder": "autoencoder",
}
BUILTIN = "builtin"  # the autoencoder that was trained for small images
# that of the original LiquidGen, and the side of images from which it replaces BUILTIN, px
FLUX = "flux"
FLUX_FROM = 256


@dataclass(frozen=True)
class TrainConfig:
    """Settings of a training; None, or a key that is not named, is as in params.yaml.

    Attributes:
        model_size: Block of `models`, the key `model` of params.yaml.
        dataset_preset: Block of `datasets`, the key `dataset`.
        image_size: Side of square images in px; or HEIGHTxWIDTH, such as "64x96".
        batch_size: Samples per optimizer step, `train.batch_size`.
        num_epochs: Passes over the training latents, `train.num_epochs`.
        learning_rate: `train.learning_rate`.
        settings: Any other keys by their full path, such as `{"train.ema_decay": 0.999}`; also
            whole new blocks, such as `datasets.mine`.
        autoencoder: Block of `autoencoders`, the key `autoencoder`; None: as in params.yaml, but
            `flux` in place of `builtin` where the call asks for images of 256 px or more.
    """

    model_size: str | None = None
    dataset_preset: str | None = None
    image_size: int | str | None = None
    batch_size: int | None = None
    num_epochs: int | None = None
    learning_rate: float | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    autoencoder: str | None = None

    def params(self) -> Params:
        """Return the settings of the whole pipeline.

        Raises:
            UserError: A key is unknown or has a wrong value; the message names its full path.
        """
        params = load_params(params_file(), self._changes())
        if not self._takes_flux(params):
            return params
        return load_params(params_file(), self._changes() | {"autoencoder": FLUX})

    def note(self) -> str | None:
        """Return a line on what the call did not name, if it decided anything."""
        if not self._takes_flux(load_params(params_file(), self._changes())):
            return None
        return (
            f"autoencoder: {FLUX}, as image_size is {self._changes()['image_size']}; "
            "TrainConfig(autoencoder=...) takes another"
        )

    def _changes(self) -> dict[str, Any]:
        fields = {key: getattr(self, name) for name, key in KEYS.items()}
        given = {key: value for key, value in fields.items() if value is not None}
        return dict(self.settings) | given

    def _takes_flux(self, params: Params) -> bool:
        """Whether the call asks for images that are too large for the autoencoder of the file."""
        changes = self._changes()
        chosen = params.selectors
        is_asked = "image_size" in changes and "autoencoder" not in changes
        is_too_large = max(sides(chosen.image_size)) >= FLUX_FROM and chosen.autoencoder == BUILTIN
        return is_asked and is_too_large and FLUX in params.raw["autoencoders"]


def params_file() -> Path:
    """Return params.yaml of the current folder, or else the one that LiquidGen comes with."""
    # in a checkout it lies beside the package, in an installed package inside
    candidates = (PARAMS, PACKAGE_FOLDER / PARAMS, PACKAGE_FOLDER.parent / PARAMS)
    return next(path for path in candidates if path.is_file())


def train(config: TrainConfig, *, callbacks: "Sequence[TrainingLogger]" = ()) -> Path:
    """Download, encode and train in the current folder.

    Data that an earlier call made from the same settings are reused. An interrupted training is
    resumed, and a higher `num_epochs` continues a finished one. In the main thread SIGINT, SIGTERM
    and SIGHUP save a training and stop it; any other thread trains without handlers of signals.

    Args:
        config: Settings.
        callbacks: Objects whose `log_metrics(metrics, step)` and `log_image(image, key, step)` are
            called with everything that the training logs.

    Returns:
        Folder of the model.

    Raises:
        UserError: A mistake in the settings or the data, or memory ran out.
        KeyboardInterrupt: The training was interrupted; a checkpoint is saved.
    """
    params = config.params()
    if params.machine.num_processes > 1 or is_worker():
        raise UserError(
            "machine.num_processes: more than one, but a call from Python is one process; set it "
            "to 1 (and start no torchrun), or use `dvc repro` in a checkout"
        )
    require_extra("pipeline")
    with lossy_output(), memory_errors(MEMORY_ADVICE):
        if note := config.note():
            print(note, flush=True)
        for line in _run_stages(params, project_root(), callbacks):
            if line is not None:
                print(one_line(line), flush=True)
    return params.model_folder


def _run_stages(
    params: Params, root: Path, callbacks: "Sequence[TrainingLogger]"
) -> Iterator[str | None]:
    """Run the stages that must run, and yield what they return: a closing line per stage."""
    # not at the top of the file: torch takes seconds to import, and the settings may be wrong
    from liquidgen.stages.download import stage as download
    from liquidgen.stages.encode import stage as encode
    from liquidgen.stages.train import stage as train

    for main, folder, entry_of in (
        (download.main, params.raw_folder, raw_entry),
        (encode.main, params.latents_folder, latents_entry),
    ):
        entry = entry_of(params, root)
        if entry.is_valid():
            yield f"{folder}: kept from an earlier call; delete it to make it again"
        else:
            yield main(params, root)
            entry.write()
    yield train.main(params, root, callbacks)
