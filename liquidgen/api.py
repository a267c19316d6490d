"""The Python interface: a training with the settings, code and files of the pipeline's stages."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from liquidgen.cache import Note
from liquidgen.config.params import PARAMS, Params, load_params, project_root
from liquidgen.runtime.extras import require_extra
from liquidgen.runtime.launch import is_worker
from liquidgen.utils.errors import UserError

if TYPE_CHECKING:
    from liquidgen.stages.train.callbacks import TrainingLogger

HERE = Path(__file__).parent
KEYS = {
    "model_size": "model",
    "dataset_preset": "dataset",
    "image_size": "image_size",
    "batch_size": "train.batch_size",
    "num_epochs": "train.num_epochs",
    "learning_rate": "train.learning_rate",
}


@dataclass(frozen=True)
class TrainConfig:
    """What to train; everything that is not said is as params.yaml has it.

    | field | key of params.yaml |
    |---|---|
    | model_size, dataset_preset | `model`, `dataset`: names of blocks |
    | image_size | `image_size` |
    | batch_size, num_epochs, learning_rate | of the section `train` |
    | settings | any other, such as `{"train.ema_decay": 0.999}`; also a block, `datasets.mine` |
    """

    model_size: str | None = None
    dataset_preset: str | None = None
    image_size: int | None = None
    batch_size: int | None = None
    num_epochs: int | None = None
    learning_rate: float | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)

    def params(self) -> Params:
        """The settings of the whole pipeline.

        Raises UserError for unknown or mistyped keys, by full path.
        """
        fields = {key: getattr(self, name) for name, key in KEYS.items()}
        said = {key: value for key, value in fields.items() if value is not None}
        return load_params(params_file(), dict(self.settings) | said)


def params_file() -> Path:
    """params.yaml of this folder, or else the one that LiquidGen comes with."""
    # in a checkout it lies beside the package, in an installed package inside
    places = (PARAMS, HERE / PARAMS, HERE.parent / PARAMS)
    return next(place for place in places if place.is_file())


def train(config: TrainConfig, *, callbacks: "Sequence[TrainingLogger]" = ()) -> Path:
    """Download, encode and train in the current folder; returns the folder of the model.

    What an earlier call made from the same settings is kept. An interrupted training goes on, and
    more epochs continue one. Callbacks see the points and pictures that are recorded.

    Raises UserError for mistakes in the settings or data; KeyboardInterrupt when told to stop.
    """
    params, root = config.params(), project_root()
    if params.machine.num_processes > 1 or is_worker():
        raise UserError(
            "machine.num_processes: more than one, but a call from Python is one process; set it "
            "to 1 (and start no torchrun), or use `dvc repro` in a checkout"
        )
    require_extra("pipeline")
    for line in _stages(params, root, callbacks):
        print(line, flush=True)
    return params.model_folder


def _stages(params: Params, root: Path, callbacks: "Sequence[TrainingLogger]") -> Iterator[str]:
    """Closing lines of the stages."""
    # not at the top: torch takes seconds, and settings can be wrong
    from liquidgen.stages.download import stage as download
    from liquidgen.stages.encode import stage as encode
    from liquidgen.stages.train import stage as train

    for main, folder, note_of in (
        (download.main, params.raw_folder, _raw_note),
        (encode.main, params.latents_folder, _latents_note),
    ):
        note = note_of(params, root / "work/kept" / f"{folder.parent.name}-{folder.name}.json")
        if note.holds():
            yield f"{folder}: kept from an earlier call; delete it to have it made anew"
        else:
            yield main(params, root)
            note.write()
    yield train.main(params, root, callbacks)


def _raw_note(params: Params, path: Path) -> Note:
    from liquidgen.images.raw import RawDataset

    def digest() -> str:
        raw = RawDataset(params.raw_folder)
        raw.verify()
        return raw.info.digest

    cause = {name: getattr(params, name).model_dump() for name in ("dataset", "download")}
    return Note(path, "liquidgen.stages.download.stage", cause, digest)


def _latents_note(params: Params, path: Path) -> Note:
    from liquidgen.images.raw_info import read_info
    from liquidgen.latents.shards import verify

    raw = read_info(params.raw_folder)
    cause = {name: getattr(params, name).model_dump() for name in ("autoencoder", "encode")}
    cause |= {"image_size": params.selectors.image_size, "raw": raw.digest, "license": raw.license}
    return Note(
        path, "liquidgen.stages.encode.stage", cause, lambda: verify(params.latents_folder).digest
    )
