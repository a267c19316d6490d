"""A training as it is determined: data, network and settings, and the folder of its state."""

import logging
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from liquidgen.config.settings import ModelSettings, TrainSettings
from liquidgen.latents.shards import LatentDataset, verify
from liquidgen.latents.weights import weights_digest
from liquidgen.runtime.fingerprint import fingerprint
from liquidgen.tracking.run_file import RUN, read_run, write_run
from liquidgen.utils.errors import UserError
from liquidgen.utils.files import canonical_json, locked, sha256

logger = logging.getLogger(__name__)

STATE_VERSION = 1
PATIENCE = 30.0  # seconds to wait for another trainer that is about to stop
# they change how long or how visibly a training runs, not where it goes
COSMETIC = {"num_epochs", "checkpoint_every", "log_every", "validate_every", "preview_every"}
TRAINER = "liquidgen.stages.train.trainer"  # what it imports decides where a training goes


@dataclass(frozen=True)
class Training:
    """Two equal trainings of the same length end in the same weights; `folder` is named by that."""

    dataset: LatentDataset
    holdout: LatentDataset
    network: dict  # arguments of LiquidNet
    settings: TrainSettings
    folder: Path

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps an epoch; the last, smaller batch is left out."""
        return len(self.dataset) // self.settings.batch_size

    @property
    def last_step(self) -> int:
        """Optimizer steps of the whole training."""
        return self.steps_per_epoch * self.settings.num_epochs

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other trainers out of the folder; raises UserError if one stays in it."""
        # a trainer whose DVC was killed is saving: the next `dvc repro` must not fail for it
        with locked(self.folder, "trains here", PATIENCE):
            self.folder.mkdir(exist_ok=True)
            yield

    @property
    def tracking_folder(self) -> Path:
        """Where the tracking run of this training at this length is kept."""
        return self.folder / f"epochs-{self.settings.num_epochs}"

    def run_id(self) -> str:
        """The tracking run of this training at this length, to be continued or begun."""
        note = self.tracking_folder / RUN
        if note.exists():
            try:
                return read_run(note.parent)
            except UserError:
                logger.warning("%s: damaged; written anew, the training goes on", note)
        # noted before any store hears of it: a kill in between would leave a run without points
        run_id = uuid.uuid4().hex
        self.remember_run(run_id)
        return run_id

    def remember_run(self, run_id: str) -> None:
        """Let a continued training continue this tracking run."""
        self.tracking_folder.mkdir(exist_ok=True)
        write_run(self.tracking_folder, run_id)


def prepare_training(
    latents_folder: Path,
    work_folder: Path,
    *,
    model: ModelSettings,
    block: str,
    block_settings: dict,
    settings: TrainSettings,
) -> Training:
    """Check the latents and find the folder of the training's state below `work_folder`.

    Raises UserError for damaged latents, for fewer of them than a batch, and for another
    autoencoder than the one that made them: the model could not be used.
    """
    manifest = verify(latents_folder)
    dataset = LatentDataset(latents_folder, "train")
    dataset.contract.check_autoencoder(weights_digest(dataset.contract.autoencoder))
    if len(dataset) < settings.batch_size:
        raise UserError(
            f"train.batch_size: {settings.batch_size}, but there are only {len(dataset)} training "
            "latents; use a smaller batch or more images"
        )
    channels, side, _ = dataset.contract.latent_shape
    network = {
        "in_channels": channels,
        "sample_size": side,
        "num_classes": dataset.num_classes,
        **model.model_dump(),
        "block": block,
        "block_settings": block_settings,
    }
    determined = {
        "version": STATE_VERSION,
        "latents": manifest.digest,
        "network": network,
        "settings": settings.model_dump(exclude=COSMETIC),
        "code": fingerprint(TRAINER, f"liquidgen.models.blocks.{block}"),
    }
    folder = work_folder / sha256(canonical_json(determined))[:16]
    return Training(dataset, LatentDataset(latents_folder, "holdout"), network, settings, folder)
