"""A field: the data and settings that all contestants of a comparison share."""

from dataclasses import asdict
from functools import cache
from pathlib import Path

from torch import nn

from benchmarks import baselines, dico
from benchmarks.baselines import BASELINES, RIVALS, Latents, liquidnet, parameters
from benchmarks.preparation import check_settings, make_data
from liquidgen.config.params import Params
from liquidgen.config.settings import TrainSettings
from liquidgen.latents.shards import LatentDataset, verify
from liquidgen.models.blocks import BLOCK_TYPES
from liquidgen.stages.train.run_state import NOT_IN_IDENTITY, trainer_code
from liquidgen.stages.train.validation import Validation
from liquidgen.utils.errors import UserError
from liquidgen.utils.files import locked, sha256

LIQUIDNET = "LiquidNet"
BLOCK_PREFIX = f"{LIQUIDNET} with "  # another block type in LiquidNet's place
CONTESTANTS = (LIQUIDNET, *RIVALS, *(BLOCK_PREFIX + b for b in BLOCK_TYPES if b != "liquid"))
# what a comparison depends on, apart from learning rate and seed
SECTIONS = ("dataset", "download", "autoencoder", "encode", "model", "train", "sample", "evaluate")
RIVALS_CODE = (Path(baselines.__file__), Path(dico.__file__))
VARIED = NOT_IN_IDENTITY | {"learning_rate", "seed"}


class Field:
    """Latents, network size and settings of a comparison, in a folder of its own.

    The folder belongs to one version of the networks and of the training code.

    Args:
        folder: Holds data, trainings and results; data are made unless they are there.
        params: Settings of the pipeline.
        turn: Steps between measurements.

    Attributes:
        dataset: Training latents.
        validation: Measures the loss on held-out latents.

    Raises:
        UserError: The folder has other settings or is of other code, or the images are too few or
            no squares.
    """

    def __init__(self, folder: Path, params: Params, turn: int) -> None:
        if params.selectors.model not in BASELINES:
            raise UserError(f"model: rivals have the sizes {', '.join(BASELINES)}")
        if not isinstance(params.selectors.image_size, int):
            raise UserError("image_size: the networks that are compared need squares")
        self.folder = folder
        self.params = params
        self.turn = turn
        folder.mkdir(parents=True, exist_ok=True)
        with locked(folder / "data", "makes its data", patience=3600):
            self._check_settings()
            if not (folder / "latents").exists():
                make_data(folder, params)
        self.manifest = verify(folder / "latents")
        self.dataset = LatentDataset(folder / "latents", "train")
        if len(self.dataset) < params.train.batch_size:
            raise UserError(f"train.batch_size: only {len(self.dataset)} latents; lower it")
        self.validation = Validation(LatentDataset(folder / "latents", "holdout"))
        self.count_parameters = cache(lambda contestant: parameters(self.network(contestant)))

    def _check_settings(self) -> None:
        settings = {name: getattr(self.params, name).model_dump() for name in SECTIONS}
        settings["train"] = self.params.train.model_dump(exclude=VARIED)
        settings["image_size"] = self.params.selectors.image_size
        settings["blocks"] = self.params.raw["blocks"]
        settings["rivals"] = asdict(BASELINES[self.params.selectors.model])
        settings["turn"] = self.turn
        settings["code"] = {block: trainer_code(block) for block in BLOCK_TYPES}
        settings["code"]["rivals"] = sha256(b"".join(path.read_bytes() for path in RIVALS_CODE))
        check_settings(self.folder / "settings.json", settings)

    @property
    def tokens(self) -> int:
        """Tokens per image."""
        return (self.dataset.contract.latent_shape[1] // self.params.model.patch_size) ** 2

    def network(self, contestant: str) -> nn.Module:
        """Create a network with new weights."""
        channels, side, _ = self.dataset.contract.latent_shape
        latents = Latents(side, channels, self.dataset.num_classes)
        model = self.params.model
        if contestant in RIVALS:
            shape = BASELINES[self.params.selectors.model]
            return RIVALS[contestant](shape, model.patch_size, latents)
        block = "liquid" if contestant == LIQUIDNET else contestant.removeprefix(BLOCK_PREFIX)
        return liquidnet(model, block, self.params.raw["blocks"], latents)

    def train_settings(self, contestant: str, learning_rate: float, seed: int) -> TrainSettings:
        """Return the settings of one training, with the contestant's faster memory layout."""
        layout = RIVALS[contestant].channels_last if contestant in RIVALS else True
        changes = {"learning_rate": learning_rate, "seed": seed, "channels_last": layout}
        return self.params.train.model_copy(update=changes)
