"""The training loop: batches, optimizer steps, logging, validation, checkpoints."""

import logging
import math
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from statistics import mean
from typing import TYPE_CHECKING

import numpy as np
import torch
from pydantic import TypeAdapter
from torch._dynamo.exc import TorchDynamoException
from tqdm.auto import tqdm

from liquidgen.compute.device import keep_freed_memory
from liquidgen.compute.distributed import SINGLE_PROCESS, World
from liquidgen.latents.shards import batches
from liquidgen.models.liquidnet import LiquidNet
from liquidgen.runtime.signals import Interrupt, Interrupted
from liquidgen.stages.train.checkpoint import (
    Content,
    checkpoints,
    load_newest,
    prune_checkpoints,
    save_checkpoint,
)
from liquidgen.stages.train.learner import Batch, Learner
from liquidgen.stages.train.optimizers import Schedule
from liquidgen.stages.train.progress import Progress
from liquidgen.stages.train.run_state import Training
from liquidgen.stages.train.validation import Validation
from liquidgen.utils.errors import UserError, reason_of
from liquidgen.utils.memory import memory_errors
from liquidgen.utils.workers import Threads

if TYPE_CHECKING:  # what this module imports is part of a training's identity
    from PIL.Image import Image

    from liquidgen.stages.train.callbacks import TrainingLogger

logger = logging.getLogger(__name__)

KEPT_CHECKPOINTS = 2
MOST_SKIPPED = 10  # skipped steps in a row before the training stops
NAMED = 8  # samples of the last batch that the error message names

# Draws a sample grid of a trainer's weights. The second argument is to be called often: it raises
# Interrupted when the training has to stop.
Preview = Callable[["Trainer", Callable[[], None]], "Image"]


class Trainer:
    """Trains from the newest usable checkpoint to the last epoch; `run` is called once.

    In a world of several processes rank 0 saves and logs for all, and sends its weights and state
    to the others: these need no access to its folders.
    """

    def __init__(
        self, training: Training, device: torch.device, world: World = SINGLE_PROCESS
    ) -> None:
        self.training = training
        self.settings = training.settings
        self.world = world
        self.interrupt = Interrupt()
        if device.type == "cpu":
            keep_freed_memory()

        # A new network, with the weights to start from, or the state of the newest checkpoint.
        torch.manual_seed(self.settings.seed)
        network = LiquidNet(**training.network)
        if training.pretrained:
            training.pretrained.copy_to(network, training.dataset.classes)
        schedule = Schedule(self.settings.warmup_steps, training.decay)
        self.learner = Learner(network, self.settings, device, world, schedule)
        self.progress = Progress()
        eligible = self._checkpoints() if world.is_main else []
        if found := world.broadcast(load_newest(eligible, self._check_content)):
            tensors, state = found
            self.learner.load_state(tensors, state["learner"])
            self.progress = Progress(**state["progress"])
        # Later checkpoints up to the last step were skipped as damaged. The next save deletes
        # them: they must not count among those to keep.
        self.damaged = [path for step, path in eligible if step > self.learner.step]

        self.validation = Validation(training.holdout)
        self.saved_at = time.monotonic()

    def _checkpoints(self) -> list[tuple[int, Path]]:
        """List the checkpoints that this length can continue from, in order of steps."""
        folders = (self.training.folder, self.training.ending_folder)
        return [
            (step, path)
            for folder in folders
            for step, path in checkpoints(folder)
            if step <= self.training.last_step and folder == self.training.state_folder(step)
        ]

    def _check_content(self, step: int, content: Content) -> None:
        """Raise an error for a checkpoint that is not one of this network at this step."""
        tensors, state = content
        if state["learner"]["step"] != step:
            raise ValueError("of another step")
        self.learner.check_state(tensors, state["learner"])
        TypeAdapter(Progress).validate_python(state["progress"])
        Progress(**state["progress"])  # refuses keys that it does not know

    def run(self, log: "TrainingLogger", preview: Preview | None = None) -> None:
        """Train.

        Args:
            log: Receives metrics and previews.
            preview: Draws a preview every `preview_every` epochs; only rank 0 gets one.

        Raises:
            UserError: Ten steps in a row were not finite, torch cannot compile the network, or
                memory ran out.
            KeyboardInterrupt: The process was told to stop; all progress is saved.
        """
        if self.learner.step == self.training.last_step and self.is_reported:
            return
        batch_size = self.settings.batch_size
        stable_steps, last_step = self.training.stable_steps, self.training.last_step
        bar = tqdm(
            desc="train",
            total=last_step * batch_size,
            initial=self.learner.step * batch_size,
            unit="img",
            disable=not self.world.is_main,
        )
        # A GPU computes while the next batches are read and drawn; a CPU has no time to spare.
        ahead = Threads(int(self.learner.device.type == "cuda"))
        with bar, self.interrupt, memory_errors(self._memory_advice()), ahead:
            numbered = enumerate(self.remaining_batches(), self.learner.step)
            prepared = ahead.map(self._prepare, numbered)
            try:
                if not self.is_reported:  # stopped before its report was complete
                    self.report(log, preview, bar)
                while self.learner.step < last_step:
                    self.check_interrupt()
                    self.advance(prepared)
                    bar.update(batch_size)
                    if time.monotonic() - self.saved_at > self.settings.checkpoint_every:
                        self.save()  # before a validation or a preview, which may take long
                    self.report(log, preview, bar)
                    if self.learner.step == stable_steps < last_step:
                        self.save()  # a longer training will continue here
            except Interrupted:
                self.save()
                raise KeyboardInterrupt(
                    f"stopped at step {self.learner.step}, all progress is saved"
                ) from None
            except TorchDynamoException as error:  # it compiles at the first step
                reason = reason_of(error, lines=2)
                raise UserError(
                    f"train.compile: torch cannot compile the network here ({reason}); install "
                    "what is missing, or set it to false"
                ) from None
            self.save()

    @property
    def is_reported(self) -> bool:
        """Whether everything due at this step has been logged."""
        done = self.learner.step == self.training.last_step
        # the checkpoint of a longer training may lack the validation of this training's last step
        return self.progress.reported == self.learner.step and not (done and self.progress.losses)

    def check_interrupt(self) -> None:
        """Raise Interrupted in all processes if one of them was told to stop."""
        if self.world.any(self.interrupt.requested):
            raise Interrupted

    def remaining_batches(self) -> Iterator[np.ndarray]:
        """Yield the indices of the batches still to train on."""
        s = self.settings
        step = self.learner.step
        following = batches(len(self.training.dataset), s.batch_size, s.seed, step)
        return islice(following, self.training.last_step - step)

    def _prepare(self, numbered: tuple[int, np.ndarray]) -> tuple[np.ndarray, Batch]:
        """Read and draw the batch of a step; returns its indices, too."""
        step, indices = numbered
        latents, labels = self.training.dataset.batch(self.world.shard(indices))
        normalized = self.training.dataset.contract.normalize(latents)
        return indices, self.learner.prepare(step, normalized, labels)

    def advance(self, prepared: Iterator[tuple[np.ndarray, Batch]]) -> None:
        """Train one step, on the next batch.

        Raises:
            UserError: Too many steps in a row were not finite.
        """
        started = time.perf_counter()
        indices, batch = next(prepared)
        loss, norm = self.learner.train_on(batch)
        progress = self.progress
        progress.seconds += time.perf_counter() - started

        if math.isfinite(loss) and math.isfinite(norm):
            progress.losses.append(loss)
            progress.gradient_norm = norm
            progress.skipped_in_a_row = 0
            return

        progress.skipped_steps += 1
        progress.skipped_in_a_row += 1
        if progress.skipped_in_a_row == min(MOST_SKIPPED, self.training.last_step):
            epoch, number = divmod(self.learner.step - 1, self.training.steps_per_epoch)
            raise UserError(
                f"train: {progress.skipped_in_a_row} steps in a row had no finite loss or gradient,"
                f" the last on batch {number} of epoch {epoch} (training samples"
                f" {', '.join(map(str, indices[:NAMED]))}, ...); lower train.learning_rate, or look"
                " at these latents"
            )

    def report(self, log: "TrainingLogger", preview: Preview | None, bar: tqdm) -> None:
        """Log everything due at this step: losses, a validation, a preview."""
        s = self.settings
        step = self.learner.step
        losses = self.progress.losses
        epochs = step / self.training.steps_per_epoch
        done = step == self.training.last_step
        epoch_ends = step % self.training.steps_per_epoch == 0

        # Training loss, averaged since the last point of the curve.
        if losses and (done or step % s.log_every == 0):
            loss = mean(losses[-s.log_every :])
            bar.set_postfix(loss=f"{loss:.3f}", refresh=False)
            metrics = {
                "loss": loss,
                "gradient_norm": self.progress.gradient_norm,
                "epoch": epochs,
                "learning_rate": self.learner.learning_rate,
            }
            log.log_metrics(metrics, step)

        # Validation, which also empties the losses: a resumed training does not repeat it.
        if losses and (done or (epoch_ends and epochs % s.validate_every == 0)):
            self.validate(log)

        # Preview, at the same steps in all processes, though rank 0 alone draws it.
        if s.preview_every and (done or (epoch_ends and epochs % s.preview_every == 0)):
            if preview:
                self.log_preview(log, preview)
            self.check_interrupt()  # rank 0 may have left its preview because of a signal

        self.progress.reported = step

    def validate(self, log: "TrainingLogger") -> None:
        """Log the validation losses and add a row to the curve."""
        step = self.learner.step
        losses = self.progress.losses
        validation_losses = self.validation.measure(self.learner, self.check_interrupt)
        log.log_metrics(validation_losses, step)
        epoch = step / self.training.steps_per_epoch
        self.progress.curve.append({"epoch": epoch, "loss": mean(losses)} | validation_losses)
        losses.clear()

    def log_preview(self, log: "TrainingLogger", preview: Preview) -> None:
        """Log a preview; one that cannot be drawn costs a warning, never the training."""
        step = self.learner.step
        with suppress(Interrupted):  # `report` stops all processes together
            try:
                with memory_errors("previews need the autoencoder, too"):
                    image = preview(self, self.interrupt.check)
            except UserError as error:
                logger.warning("no preview at step %d (%s); the training goes on", step, error)
            else:
                log.log_image(image, "preview", step)

    def save(self) -> None:
        """Write a checkpoint and delete older ones, in rank 0."""
        if not self.world.is_main:
            return
        self.progress.update_peak_memory(self.learner.device)
        tensors, learner_state = self.learner.state()
        state = {"learner": learner_state, "progress": asdict(self.progress)}
        folder = self.training.state_folder(self.learner.step)
        folder.mkdir(exist_ok=True)
        save_checkpoint(folder, self.learner.step, tensors, state)
        while self.damaged:
            self.damaged.pop().unlink(missing_ok=True)
        prune_checkpoints(folder, self.learner.step, KEPT_CHECKPOINTS)
        self.saved_at = time.monotonic()

    def _memory_advice(self) -> str:
        s = self.settings
        return (
            f"lower train.batch_size ({s.batch_size}), raise train.accumulation_steps "
            f"({s.accumulation_steps}; the same batch in more parts) or set "
            "train.gradient_checkpointing, each of which starts the training again; or close other "
            "programs, then it goes on from the last checkpoint"
        )

    def summary(self, folder: object) -> str:
        """Return the closing line of the stage."""
        loss = self.progress.curve[-1]["validation_loss"]
        seconds = self.progress.seconds
        return (
            f"train: {self.learner.step} steps in {seconds:.0f} s, validation loss {loss:.4f}, "
            f"model in {folder}"
        )
