"""The training loop: batch, noise, loss, backward, clip, step, average, log, save."""

import math
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict
from statistics import mean

import numpy as np
import torch
from torch._dynamo.exc import TorchDynamoException
from tqdm.auto import tqdm

from liquidgen.compute.device import keep_freed_memory
from liquidgen.compute.distributed import SINGLE_PROCESS, World
from liquidgen.latents.shards import epoch_order
from liquidgen.models.liquidnet import LiquidNet
from liquidgen.runtime.signals import Interrupt, Interrupted
from liquidgen.stages.train.callbacks import TrainingLogger
from liquidgen.stages.train.checkpoint import (
    checkpoints,
    load_checkpoint,
    prune_checkpoints,
    save_checkpoint,
)
from liquidgen.stages.train.learner import Learner
from liquidgen.stages.train.preview import preview_grid
from liquidgen.stages.train.progress import Progress
from liquidgen.stages.train.run_state import Training
from liquidgen.stages.train.validation import Validation
from liquidgen.utils.errors import UserError

KEPT_CHECKPOINTS = 2
MOST_SKIPPED = 10  # non-finite steps in a row before the run stops
NAMED = 8  # samples of the batch that the message names


class Trainer:
    """One training from its newest fitting checkpoint to its last epoch.

    In a world of several processes the first one saves, and logs for all.
    """

    def __init__(
        self, training: Training, device: torch.device, world: World = SINGLE_PROCESS
    ) -> None:
        self.training, self.settings, self.world = training, training.settings, world
        if device.type == "cpu":
            keep_freed_memory()
        torch.manual_seed(self.settings.seed)
        self.learner = Learner(LiquidNet(**training.network), self.settings, device, world)
        self.progress = Progress()
        if found := load_checkpoint(training.folder, training.last_step):
            tensors, facts = found
            self.learner.load_state(tensors, facts["learner"])
            self.progress = Progress(**facts["progress"])
        # what lies between was passed over as damaged, and must not count as one to keep
        later = [found for found in checkpoints(training.folder) if found[0] > self.learner.step]
        self.damaged = [path for step, path in later if step <= training.last_step]
        if world.sum(torch.tensor(self.learner.step)) != world.size * self.learner.step:
            raise UserError(f"{training.folder}: not all processes see the same checkpoints")
        self.validation = Validation(training.holdout, self.learner)
        self.saved_at = time.monotonic()

    def run(self, log: TrainingLogger) -> None:
        """Train.

        Raises UserError after ten broken steps and where torch cannot compile what it is asked to;
        KeyboardInterrupt when told to stop.
        """
        if self.learner.step == self.training.last_step and self.reported:
            return
        batch_size = self.settings.batch_size
        total, initial = self.training.last_step * batch_size, self.learner.step * batch_size
        quiet = not self.world.is_main
        bar = tqdm(desc="train", total=total, initial=initial, unit="img", disable=quiet)
        with bar, Interrupt() as self.interrupt:
            try:
                if not self.reported:
                    self.report(log, bar)
                for indices in self.remaining_batches():
                    self.look_for_interrupt()
                    self.advance(indices)
                    bar.update(batch_size)
                    if time.monotonic() - self.saved_at > self.settings.checkpoint_every:
                        self.save()  # before a validation or a preview, which may take long
                    self.report(log, bar)
            except Interrupted:
                self.save()
                raise KeyboardInterrupt(
                    f"stopped at step {self.learner.step}, all progress is saved"
                ) from None
            except TorchDynamoException as error:  # it compiles at the first step
                reason = " ".join(str(error).splitlines()[:2]).strip()
                raise UserError(
                    f"train.compile: torch cannot compile the network here ({reason}); install "
                    "what is missing, or set it to false"
                ) from None
            self.save()

    @property
    def reported(self) -> bool:
        """Whether all that is due at this step is logged, and the end if this is the last."""
        done = self.learner.step == self.training.last_step
        # a longer training's checkpoint may have no validation at our last step
        return self.progress.reported == self.learner.step and not (done and self.progress.losses)

    def look_for_interrupt(self) -> None:
        """Raise Interrupted in all processes if one of them is told to stop."""
        if self.world.any(self.interrupt.requested):
            raise Interrupted

    def remaining_batches(self) -> Iterator[np.ndarray]:
        """Indices of the batches still to train on, a fresh permutation an epoch."""
        training, size = self.training, self.settings.batch_size
        first_epoch, first_batch = divmod(self.learner.step, training.steps_per_epoch)
        for epoch in range(first_epoch, self.settings.num_epochs):
            order = epoch_order(len(training.dataset), self.settings.seed, epoch)
            for batch in range(first_batch, training.steps_per_epoch):
                yield order[batch * size : (batch + 1) * size]
            first_batch = 0

    def advance(self, indices: np.ndarray) -> None:
        """One training step, with a stop after too many broken ones in a row."""
        started = time.perf_counter()
        latents, labels = self.training.dataset.batch(self.world.shard(indices))
        normalized = self.training.dataset.contract.normalize(latents)
        loss, norm = self.learner.train_step(normalized, labels)
        progress = self.progress
        progress.seconds += time.perf_counter() - started
        if math.isfinite(loss) and math.isfinite(norm):
            progress.losses.append(loss)
            progress.gradient_norm, progress.skipped_in_a_row = norm, 0
            return
        progress.skipped_steps += 1
        progress.skipped_in_a_row += 1
        if progress.skipped_in_a_row == min(MOST_SKIPPED, self.training.last_step):
            epoch, batch = divmod(self.learner.step - 1, self.training.steps_per_epoch)
            raise UserError(
                f"train: {progress.skipped_in_a_row} steps in a row had no finite loss or gradient,"
                f" the last on batch {batch} of epoch {epoch} (training samples"
                f" {', '.join(map(str, indices[:NAMED]))}, ...); lower train.learning_rate, or look"
                " at these latents"
            )

    def report(self, log: TrainingLogger, bar: tqdm) -> None:
        """Log what is due at this step: losses, a validation, a preview."""
        s, step, losses = self.settings, self.learner.step, self.progress.losses
        done, within = step == self.training.last_step, step % self.training.steps_per_epoch
        epochs = step / self.training.steps_per_epoch
        if losses and (done or step % s.log_every == 0):
            loss = mean(losses[-s.log_every :])
            bar.set_postfix(loss=f"{loss:.3f}", refresh=False)
            point = {"loss": loss, "gradient_norm": self.progress.gradient_norm, "epoch": epochs}
            point |= {"learning_rate": self.learner.learning_rate}
            log.log_metrics(point, step)
        if losses and (done or (within == 0 and epochs % s.validate_every == 0)):
            self.validate(log)
        if s.preview_every and (done or (within == 0 and epochs % s.preview_every == 0)):
            self.preview(log)
            self.look_for_interrupt()  # the first process may have left its preview for it
        self.progress.reported = step

    def validate(self, log: TrainingLogger) -> None:
        """Log the validation loss, and add a row to the curve."""
        step, losses = self.learner.step, self.progress.losses
        measured = self.validation.measure(self.learner, self.look_for_interrupt)
        log.log_metrics(measured, step)
        epoch = step / self.training.steps_per_epoch
        self.progress.curve.append({"epoch": epoch, "loss": mean(losses)} | measured)
        losses.clear()

    def preview(self, log: TrainingLogger) -> None:
        """Log a sample grid, drawn by the first process."""
        if self.world.is_main:
            dataset = self.training.dataset
            with suppress(Interrupted):
                grid = preview_grid(
                    self.learner, dataset.contract, dataset.classes, self.interrupt.check
                )
                log.log_image(grid, "preview", self.learner.step)

    def save(self) -> None:
        """Write a checkpoint and drop the older ones, in the first process."""
        if not self.world.is_main:
            return
        self.progress.note_memory(self.learner.device)
        tensors, facts = self.learner.state()
        facts = {"learner": facts, "progress": asdict(self.progress)}
        save_checkpoint(self.training.folder, self.learner.step, tensors, facts)
        while self.damaged:
            self.damaged.pop().unlink(missing_ok=True)
        prune_checkpoints(self.training.folder, self.learner.step, KEPT_CHECKPOINTS)
        self.saved_at = time.monotonic()

    def summary(self, folder: object) -> str:
        """The closing line."""
        loss, seconds = self.progress.curve[-1]["validation_loss"], self.progress.seconds
        return (
            f"train: {self.learner.step} steps in {seconds:.0f} s, validation loss {loss:.4f}, "
            f"model in {folder}"
        )
