"""Identity of a training (data, network, settings, code), and the folder of its state."""

import logging
import re
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from liquidgen.config.settings import ModelSettings, TrainSettings, validate
from liquidgen.generator.run_file import RUN, read_run, write_run
from liquidgen.latents.contract import sample_size
from liquidgen.latents.shards import LatentDataset, verify
from liquidgen.models.blocks import block_type
from liquidgen.runtime.earlier_code import EARLIER_CODE
from liquidgen.runtime.fingerprint import fingerprint
from liquidgen.stages.train.optimizers import Decay
from liquidgen.utils.errors import UserError
from liquidgen.utils.files import canonical_json, locked, sha256

if TYPE_CHECKING:  # what this module imports is part of a training's identity
    from liquidgen.generator.pretrained import Pretrained

logger = logging.getLogger(__name__)

STATE_VERSION = 1
PATIENCE = 30.0  # seconds to wait for another trainer that is about to stop
# settings that change how long a training runs or what is logged, not the weights at a given step
# before the decay of the learning rate
NOT_IN_IDENTITY = {
    "num_epochs",
    "learning_rate_decay",
    "decay_fraction",
    "checkpoint_every",
    "log_every",
    "validate_every",
    "preview_every",
}
DECAY_FOLDER = re.compile(r"^[a-z]+-(\d+)-\d+$")  # of `Training.ending_folder`; its first step
TRAINER = "liquidgen.stages.train.trainer"  # the code in a training's identity is what it imports


@dataclass(frozen=True)
class Training:
    """A training before it starts.

    Trainings with equal identity share their state. Of equal length, on one machine and with the
    same number of processes, they end in equal weights.

    Attributes:
        dataset: Training latents.
        holdout: Held-out latents.
        network: Arguments of LiquidNet.
        settings: Settings of the stage train.
        recipe: Those that determine the weights at the end of this length, with a digest in place
            of `init_from`.
        pretrained: Weights to start from; None: random ones.
        folder: Folder of the state, named by a digest of the identity.
        earlier: Folders that the state had if it is from before a change of `EARLIER_CODE`.
    """

    dataset: LatentDataset
    holdout: LatentDataset
    network: dict
    settings: TrainSettings
    recipe: dict[str, Any]
    pretrained: "Pretrained | None"
    folder: Path
    earlier: tuple[Path, ...]

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps per epoch; the last, smaller batch is left out."""
        return len(self.dataset) // self.settings.batch_size

    @property
    def last_step(self) -> int:
        """Optimizer steps of the whole training."""
        return self.steps_per_epoch * self.settings.num_epochs

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Lock the folder against other trainers.

        Raises:
            UserError: Another trainer keeps the lock.
        """
        # the trainer of a killed DVC saves before it ends: the next `dvc repro` waits for it
        with locked(self.folder, "trains here", PATIENCE):
            for earlier in self.earlier:
                if earlier.exists() and not self.folder.exists():
                    with locked(earlier, "trains here", PATIENCE):
                        earlier.rename(self.folder)
            self.folder.mkdir(exist_ok=True)
            yield

    @property
    def decay(self) -> Decay | None:
        """The decay of the learning rate at this length; None if it stays constant."""
        s = self.settings
        steps = round(s.decay_fraction * self.last_step)
        if s.learning_rate_decay == "none" or steps == 0:
            return None
        return Decay(s.learning_rate_decay, self.last_step - steps, self.last_step)

    @property
    def stable_steps(self) -> int:
        """Steps whose weights a training of any length shares: those before the decay."""
        return self.decay.start if self.decay else self.last_step

    @property
    def ending_folder(self) -> Path:
        """Folder of what belongs to this length alone: the tracking run, and the decay's state."""
        if self.decay is None:
            return self.folder / f"epochs-{self.settings.num_epochs}"
        return self.folder / f"{self.decay.shape}-{self.decay.start}-{self.decay.end}"

    def state_folder(self, step: int) -> Path:
        """Return the folder of the checkpoint of a step."""
        return self.folder if step <= self.stable_steps else self.ending_folder

    def earlier_journals(self, step: int) -> list[Path]:
        """Return the journals of all lengths whose rate was constant up to a step."""
        return [
            path
            for path in sorted(self.folder.glob("*/metrics.jsonl"))
            if not (decay := DECAY_FOLDER.match(path.parent.name)) or int(decay[1]) >= step
        ]

    def run_id(self) -> str:
        """Return the id of the tracking run to continue, or a new one."""
        path = self.ending_folder / RUN
        if path.exists():
            try:
                return read_run(path.parent)
            except UserError:
                logger.warning("%s: damaged; written again, the training goes on", path)
        # saved before the run is created: a kill in between would leave a run without metrics
        run_id = uuid.uuid4().hex
        self.save_run_id(run_id)
        return run_id

    def save_run_id(self, run_id: str) -> None:
        """Save the tracking run that this training continues when it is resumed."""
        self.ending_folder.mkdir(exist_ok=True)
        write_run(self.ending_folder, run_id)


def prepare_training(
    latents_folder: Path,
    work_folder: Path,
    *,
    model: ModelSettings,
    block: str,
    block_settings: dict,
    settings: TrainSettings,
    pretrained: "Pretrained | None" = None,
    quiet: bool = False,
) -> Training:
    """Verify the latents and compute the identity of the training.

    Args:
        latents_folder: Folder of the stage encode.
        work_folder: Folder of the state folders of all trainings.
        model: Size of the network.
        block: Name of the block type.
        block_settings: Settings of the block type.
        settings: Settings of the stage train.
        pretrained: Weights to start from, of `settings.init_from`.
        quiet: Whether to show no bar.

    Raises:
        UserError: The latents are damaged, or fewer than a batch; the block type or its settings
            are unknown; or the training cannot start from the weights.
    """
    manifest = verify(latents_folder, quiet)
    dataset = LatentDataset(latents_folder, "train")
    if len(dataset) < settings.batch_size:
        raise UserError(
            f"train.batch_size: {settings.batch_size}, but there are only {len(dataset)} training "
            "latents; use a smaller batch or more images"
        )
    latent_shape = dataset.contract.latent_shape
    network = {
        "in_channels": latent_shape[0],
        "sample_size": sample_size(latent_shape),
        "num_classes": dataset.num_classes,
        **model.model_dump(),
        "block": block,
        # in the order of the fields: the order of keys in params.yaml makes no other training
        "block_settings": validate(
            block_type(block).Settings, block_settings, f"blocks.{block}"
        ).model_dump(),
    }
    code = trainer_code(block)
    recipe = settings.model_dump(exclude=NOT_IN_IDENTITY)
    # trainings from before there was a choice of these continue
    if settings.optimizer == "adamw":
        del recipe["optimizer"]
    del recipe["init_from"]
    if pretrained:
        pretrained.check(dataset.contract, network)
        recipe["init_from"] = pretrained.digest
    decay = settings.model_dump(include={"learning_rate_decay", "decay_fraction"})
    decays = settings.learning_rate_decay != "none"
    identity = {
        "version": STATE_VERSION,
        "latents": manifest.digest,
        "network": network,
        "settings": recipe,
        "code": code,
    }
    return Training(
        dataset,
        LatentDataset(latents_folder, "holdout"),
        network,
        settings,
        recipe | (decay if decays else {}),
        pretrained,
        folder=work_folder / _name(identity),
        earlier=tuple(
            work_folder / _name(identity | {"code": before})
            for before in EARLIER_CODE.get(code, ())
        ),
    )


def trainer_code(block: str) -> str:
    """Return the fingerprint of the code that makes the steps, of a block type's file among it."""
    return fingerprint(TRAINER, f"liquidgen.models.blocks.{block}")


def _name(identity: dict) -> str:
    return sha256(canonical_json(identity))[:16]
