"""Network, EMA, optimizer and mixed precision: one training step."""

import contextlib
import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
from diffusers.training_utils import EMAModel
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from liquidgen.compute.distributed import SINGLE_PROCESS, World
from liquidgen.compute.precision import autocast, network_dtype
from liquidgen.config.settings import TrainSettings
from liquidgen.flow.matching import drop_labels, flow_loss
from liquidgen.flow.time_sampling import TIME_SAMPLINGS
from liquidgen.models.liquidnet import LiquidNet
from liquidgen.stages.train.optimizers import MOMENTUM_KEY, Schedule, create_optimizer
from liquidgen.utils.errors import UserError

GOLDEN = 0x9E3779B1  # 2**32 / golden ratio, as in multiplicative hashing (Knuth, TAOCP 3, 6.4)


def generator_for(seed: int, step: int) -> torch.Generator:
    """Return the generator of one step, a pure function of its arguments: it needs no state."""
    # torch's generator takes 32 bits of a seed: other seeds start far away in the same 2**32 steps
    return torch.Generator().manual_seed((seed * GOLDEN + step) % 2**32)


class Batch(NamedTuple):
    """This process's shard of a batch, with all that is random about its step, in main memory."""

    latents: Tensor  # (B, C, h, w), normalized
    labels: Tensor  # (B,), some of them dropped
    noise: Tensor  # (B, C, h, w)
    t: Tensor  # (B,)


class Learner:
    """Trains a network by flow matching on normalized latents.

    In a world of several processes each one gets a shard of every batch, and all stay equal.

    Args:
        model: The network.
        settings: Settings of the stage train.
        device: Device to train on.
        world: The processes that train together.
        schedule: Factor of the learning rate per step; None: warm-up, then constant.

    Attributes:
        model: The network with the weights in training.
        velocity: The network as it is called: compiled, or wrapped for several processes.
        ema: Averaged weights.
        optimizer: AdamW, or Muon, which is AdamW for all but matrices.
        scaler: Loss scaling; off unless in fp16.
        step: Optimizer steps done, skipped ones included.

    Raises:
        UserError: The device lacks the precision, or the batch cannot be divided by the processes
            or into `accumulation_steps` parts.
    """

    def __init__(
        self,
        model: LiquidNet,
        settings: TrainSettings,
        device: torch.device,
        world: World = SINGLE_PROCESS,
        schedule: Schedule | None = None,
    ) -> None:
        _check_batch(settings, world)
        self.schedule = schedule or Schedule(settings.warmup_steps)
        self.settings = settings
        self.world = world
        self.dtype = network_dtype(settings.precision, device, "train")
        layout = torch.channels_last if settings.channels_last else torch.contiguous_format
        self.model = model.to(device, memory_format=layout)
        self.device = next(self.model.parameters()).device  # cuda has its index now
        self.model.gradient_checkpointing = settings.gradient_checkpointing
        self.velocity = torch.compile(self.model) if settings.compile else self.model
        if world.size > 1:
            self.velocity = DistributedDataParallel(
                self.velocity,
                device_ids=[device] if device.type == "cuda" else None,
                gradient_as_bucket_view=True,
            )
        self.ema = EMAModel(model.parameters(), decay=settings.ema_decay, foreach=True)
        self.optimizer = create_optimizer(model, settings)
        self.scaler = torch.amp.GradScaler(device.type, enabled=self.dtype == torch.float16)
        self.step = 0

    def prepare(self, step: int, latents: Tensor, labels: Tensor) -> Batch:
        """Draw what is random about a step; on a GPU, in memory that is copied while it computes.

        It reads nothing that a step changes, so that another thread may do it ahead of the step.

        Args:
            step: The step that will train on the batch.
            latents: This process's shard of a batch of normalized latents (B, C, h, w).
            labels: Their labels (B,).
        """
        s = self.settings

        # Noise, times and dropped labels of the whole batch: the same with any number of processes.
        generator = generator_for(s.seed, step)
        count = len(latents) * self.world.size
        noise = torch.randn((count, *latents.shape[1:]), generator=generator)
        t = TIME_SAMPLINGS[s.time_sampling](torch.rand(count, generator=generator))
        drop = torch.rand(count, generator=generator)

        # This process's shard of them.
        noise, t, drop = (self.world.shard(tensor) for tensor in (noise, t, drop))
        labels = drop_labels(labels, self.model.null_label, s.label_dropout, drop)
        batch = Batch(latents, labels, noise, t)
        if self.device.type != "cuda":
            return batch
        with torch.cuda.device(self.device):  # in a new thread the first GPU is the current one
            return Batch(*(tensor.pin_memory() for tensor in batch))

    def train_step(self, latents: Tensor, labels: Tensor) -> tuple[float, float]:
        """Do one optimizer step: `prepare`, then `train_on`."""
        return self.train_on(self.prepare(self.step, latents, labels))

    def train_on(self, batch: Batch) -> tuple[float, float]:
        """Do one optimizer step.

        A step whose loss or gradient is not finite changes neither weights nor EMA.

        Args:
            batch: What `prepare` returned for this step.

        Returns:
            Loss and gradient norm (before clipping) of the whole batch.
        """
        # Forward and backward.
        loss = self.world.sum(self._backward(*self._to_device(*batch))) / self.world.size

        # Clip gradients by their norm.
        self.scaler.unscale_(self.optimizer)
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), self.settings.grad_clip)
        loss, norm = torch.stack([loss, norm]).tolist()  # the only wait for a GPU per step

        # Update the weights and the EMA.
        for group in self.optimizer.param_groups:
            group["lr"] = self.settings.learning_rate * self.schedule.factor(self.step)
        if math.isfinite(loss) and math.isfinite(norm):
            self.scaler.step(self.optimizer)
            self.ema.step(self.model.parameters())
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        self.step += 1
        return loss, norm

    def _backward(self, *batch: Tensor) -> Tensor:
        """Accumulate the gradients of the mean loss of a batch; returns that loss."""
        count = self.settings.accumulation_steps
        losses: list[Tensor] = []
        for part in zip(*(tensor.tensor_split(count) for tensor in batch), strict=True):
            with self._gradient_exchange(is_last=len(losses) == count - 1):
                with autocast(self.device, self.dtype):
                    loss = flow_loss(self.velocity, *part).sum() / len(batch[0])
                self.scaler.scale(loss).backward()
            losses.append(loss.detach())
        return torch.stack(losses).sum()

    def _gradient_exchange(self, is_last: bool) -> contextlib.AbstractContextManager:
        # processes exchange gradients once per step, after the last part of the batch
        if isinstance(self.velocity, DistributedDataParallel) and not is_last:
            return self.velocity.no_sync()
        return contextlib.nullcontext()

    @property
    def learning_rate(self) -> float:
        """Learning rate of the last step."""
        return self.settings.learning_rate * self.schedule.factor(self.step - 1)

    @torch.no_grad()
    def losses(self, latents: Tensor, labels: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """Return the loss per sample (B,) of the weights in use, without training."""
        batch = self._to_device(latents, labels, noise, t)
        with autocast(self.device, self.dtype):
            return flow_loss(self.velocity, *batch).cpu()

    @contextlib.contextmanager
    def averaged(self) -> Iterator[LiquidNet]:
        """Swap in the averaged weights within the context; yields the network."""
        self.ema.store(self.model.parameters())
        self.ema.copy_to(self.model.parameters())
        self.model.eval()
        try:
            yield self.model
        finally:
            self.ema.restore(self.model.parameters())
            self.model.train()

    def state(self) -> tuple[dict[str, Tensor], dict]:
        """Return everything that the next step depends on: tensors, and a state JSON can hold."""
        tensors: dict[str, Tensor] = {}
        for name, parameter, average in self._named():
            parts = {"model": parameter, "ema": average} | self.optimizer.state.get(parameter, {})
            tensors |= {f"{part}.{name}": value for part, value in parts.items()}
        state = {
            "step": self.step,
            "ema_step": self.ema.optimization_step,
            "scaler": self.scaler.state_dict(),
        }
        return {name: value.detach().contiguous() for name, value in tensors.items()}, state

    def check_state(self, tensors: dict[str, Tensor], state: dict) -> None:
        """Check that `load_state` can load this, before it changes anything.

        Raises:
            KeyError: Something is missing.
            ValueError: Something has another shape or type.
        """
        for name, parameter, _ in self._named():
            for part in ("model", "ema", *_moments(name, tensors)):
                if tensors[f"{part}.{name}"].shape != parameter.shape:
                    raise ValueError(f"{part}.{name}: another shape")
        if not all(isinstance(state[key], int) for key in ("step", "ema_step")):
            raise ValueError("step: not a number")
        if state["scaler"]:
            torch.GradScaler("cpu").load_state_dict(state["scaler"])

    @torch.no_grad()
    def load_state(self, tensors: dict[str, Tensor], state: dict) -> None:
        """Load what `state` returned, also on another device or in another precision."""
        for name, parameter, average in self._named():
            parameter.copy_(tensors[f"model.{name}"])
            average.copy_(tensors[f"ema.{name}"])
            # fused AdamW walks through memory, so moments need the strides of the parameter
            moments = {
                part: torch.empty_like(parameter).copy_(tensors[f"{part}.{name}"])
                for part in _moments(name, tensors)
            }
            if f"step.{name}" in tensors:
                moments["step"] = tensors[f"step.{name}"].to(self.device, copy=True)
            if moments:  # an optimizer has no state before its first step
                self.optimizer.state[parameter] = moments
        if state["scaler"]:  # empty after a training without loss scaling
            self.scaler.load_state_dict(state["scaler"])
        self.step = state["step"]
        self.ema.optimization_step = state["ema_step"]

    def _named(self) -> Iterator[tuple[str, nn.Parameter, Tensor]]:
        """Yield name, value and average of each parameter."""
        named = self.model.named_parameters()
        for (name, parameter), average in zip(named, self.ema.shadow_params, strict=True):
            yield name, parameter, average

    def _to_device(self, *tensors: Tensor) -> list[Tensor]:
        return [tensor.to(self.device, non_blocking=True) for tensor in tensors]


def _moments(name: str, tensors: dict[str, Tensor]) -> tuple[str, ...]:
    """Return the names of a parameter's moments in a state: of AdamW, of Muon, or none."""
    if f"{MOMENTUM_KEY}.{name}" in tensors:
        return (MOMENTUM_KEY,)
    return ("exp_avg", "exp_avg_sq") if f"step.{name}" in tensors else ()


def _check_batch(settings: TrainSettings, world: World) -> None:
    own, left = divmod(settings.batch_size, world.size)
    if left:
        raise UserError(
            f"train.batch_size: {settings.batch_size} does not divide by {world.size} processes "
            "(machine.num_processes); change either"
        )
    if settings.accumulation_steps > own:
        raise UserError(
            f"train.accumulation_steps: {settings.accumulation_steps}, but a process has only "
            f"{own} samples of a batch; lower it"
        )
