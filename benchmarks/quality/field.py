"""A field: the data and settings that all contestants of a comparison share."""

import json
from dataclasses import dataclass, field
from pathlib import Path

from torch import nn

from benchmarks.baselines import BASELINES, RIVALS, Latents, liquidnet
from benchmarks.preparation import encode_raw
from liquidgen.config.params import Params
from liquidgen.config.settings import ModelSettings, TrainSettings
from liquidgen.latents.shards import LatentDataset, verify
from liquidgen.models.blocks import BLOCK_TYPES
from liquidgen.stages.download.download import download
from liquidgen.stages.train.validation import Validation
from liquidgen.utils.errors import UserError
from liquidgen.utils.files import locked, write_json

LIQUIDNET = "LiquidNet"
BLOCK_PREFIX = f"{LIQUIDNET} with "  # another block type in LiquidNet's place
# sections of params.yaml that a comparison depends on, apart from learning rate and seed
SECTIONS = ("dataset", "download", "autoencoder", "encode", "model", "train", "sample", "evaluate")
VARIED = {"learning_rate", "seed", "num_epochs"}


@dataclass(eq=False)
class Field:
    """Latents, network size and settings of a comparison, in a folder of its own.

    Attributes:
        folder: Holds data, runs and results.
        params: Settings of the pipeline.
        dataset: Training latents.
        validation: Measures the loss on held-out latents.
    """

    folder: Path
    params: Params
    dataset: LatentDataset = field(init=False)
    validation: Validation = field(init=False)

    def __post_init__(self) -> None:
        if self.params.selectors.model not in BASELINES:
            raise UserError(f"model: rivals have the sizes {', '.join(BASELINES)}")
        self.folder.mkdir(parents=True, exist_ok=True)
        with locked(self.folder / "data", "makes its data", patience=3600):
            self._check_settings()
            if not (self.folder / "latents").exists():
                raw = self.folder / "raw"
                download(self.params.dataset, self.params.download, raw, num_workers=2)
                encode_raw(self.folder, self.params)
        self.manifest = verify(self.folder / "latents")
        self.dataset = LatentDataset(self.folder / "latents", "train")
        self.validation = Validation(LatentDataset(self.folder / "latents", "holdout"))

    def _check_settings(self) -> None:
        settings = {name: getattr(self.params, name).model_dump() for name in SECTIONS}
        settings["image_size"] = self.params.selectors.image_size
        for key in VARIED:
            del settings["train"][key]
        path = self.folder / "settings.json"
        settings = json.loads(json.dumps(settings))
        if not path.exists():
            write_json(path, settings)
        elif json.loads(path.read_bytes()) != settings:
            raise UserError(f"{path}: made with other settings; name another folder")

    @property
    def tokens(self) -> int:
        """Tokens per image."""
        return (self.dataset.contract.latent_shape[1] // self.params.model.patch_size) ** 2

    def network(self, contestant: str) -> nn.Module:
        """Create a network with new weights."""
        channels, side, _ = self.dataset.contract.latent_shape
        latents = Latents(side, channels, self.dataset.num_classes)
        model: ModelSettings = self.params.model
        if contestant in RIVALS:
            shape = BASELINES[self.params.selectors.model]
            return RIVALS[contestant](shape, model.patch_size, latents)
        block = contestant.removeprefix(BLOCK_PREFIX) if contestant != LIQUIDNET else "liquid"
        return liquidnet(model, block, self.params.raw["blocks"], latents)

    def train_settings(self, learning_rate: float, seed: int) -> TrainSettings:
        """Return the settings of one training."""
        return self.params.train.model_copy(update={"learning_rate": learning_rate, "seed": seed})


def contestants() -> list[str]:
    """Return the names that can be compared."""
    others = [f"{BLOCK_PREFIX}{block}" for block in BLOCK_TYPES if block != "liquid"]
    return [LIQUIDNET, *RIVALS, *others]
