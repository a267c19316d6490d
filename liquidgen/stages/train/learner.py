"""One learner: network, averaged weights, optimizer and precision, advanced a step at a time."""

import contextlib
import math
from collections.abc import Iterator

import torch
from diffusers.training_utils import EMAModel
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from liquidgen.compute.distributed import SINGLE_PROCESS, World
from liquidgen.config.settings import TrainSettings
from liquidgen.flow.matching import drop_labels, flow_loss
from liquidgen.flow.time_sampling import TIME_SAMPLINGS
from liquidgen.models.liquidnet import LiquidNet
from liquidgen.utils.errors import UserError

GOLDEN = 0x9E3779B1  # 2**32 / golden ratio, as in multiplicative hashing (Knuth, TAOCP 3, 6.4)


def resolve_precision(precision: str, device: torch.device) -> torch.dtype:
    """The dtype of the forward pass: bf16 where the card has it, else fp16; fp32 on a CPU.

    Raises UserError for fp16 on a CPU and for bf16 on a card without it.
    """
    cuda = device.type == "cuda"
    # without the argument, torch also counts the slow emulation on a T4
    native = cuda and torch.cuda.is_bf16_supported(including_emulation=False)
    if precision == "auto":
        precision = ("bf16" if native else "fp16") if cuda else "fp32"
    if precision == "fp16" and not cuda:
        raise UserError("train.precision: fp16 needs a CUDA device; use fp32, bf16 or auto")
    if precision == "bf16" and cuda and not native:
        raise UserError("train.precision: this card has no bf16; use fp16, fp32 or auto")
    return {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]


def generator_for(seed: int, step: int) -> torch.Generator:
    """The randomness of one step, a pure function of its arguments: resuming needs no state."""
    # torch's generator takes 32 bits of a seed: other seeds start far away in the same 2**32 steps
    return torch.Generator().manual_seed((seed * GOLDEN + step) % 2**32)


class Learner:
    """Trains a network by flow matching on normalized latents.

    In a world of several processes each sees its share of every batch, and all stay equal.

    Raises UserError for a precision that the device does not have, and for a batch that does not
    divide by the processes, or into as many parts as are to be accumulated.
    """

    def __init__(
        self,
        model: LiquidNet,
        settings: TrainSettings,
        device: torch.device,
        world: World = SINGLE_PROCESS,
    ) -> None:
        _check_batch(settings, world)
        self.dtype = resolve_precision(settings.precision, device)
        layout = torch.channels_last if settings.channels_last else torch.contiguous_format
        self.model = model.to(device, memory_format=layout)
        self.model.checkpoint_blocks = settings.gradient_checkpointing
        self.settings, self.device, self.world = settings, device, world
        self.velocity = torch.compile(self.model) if settings.compile else self.model
        if world.size > 1:
            self.velocity = DistributedDataParallel(
                self.velocity,
                device_ids=[device] if device.type == "cuda" else None,
                gradient_as_bucket_view=True,
            )
        self.ema = EMAModel(model.parameters(), decay=settings.ema_decay, foreach=True)
        self.optimizer = torch.optim.AdamW(
            _parameter_groups(model, settings.weight_decay),
            lr=settings.learning_rate,
            betas=tuple(settings.betas),
            fused=True,
        )
        self.scaler = torch.amp.GradScaler(device.type, enabled=self.dtype == torch.float16)
        self.step = 0

    def train_step(self, latents: Tensor, labels: Tensor) -> tuple[float, float]:
        """One optimizer step on this process's share of a batch; loss and norm are of the whole.

        A non-finite loss or gradient changes neither weights nor average; the caller sees it.
        """
        s, generator = self.settings, generator_for(self.settings.seed, self.step)
        whole = len(latents) * self.world.size  # drawn by all: any world has the same noise
        noise = torch.randn((whole, *latents.shape[1:]), generator=generator)
        t = TIME_SAMPLINGS[s.time_sampling](torch.rand(whole, generator=generator))
        drop = torch.rand(whole, generator=generator)
        noise, t, drop = map(self.world.shard, (noise, t, drop))
        latents, labels, noise, t, drop = self._placed(latents, labels, noise, t, drop)
        labels = drop_labels(labels, self.model.null_label, s.label_dropout, drop)
        loss = self.world.sum(self._backward(latents, labels, noise, t)) / self.world.size
        self.scaler.unscale_(self.optimizer)
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), s.grad_clip)
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate
        loss, norm = torch.stack([loss, norm]).tolist()  # the one wait for a GPU
        if math.isfinite(loss) and math.isfinite(norm):
            self.scaler.step(self.optimizer)
            self.ema.step(self.model.parameters())
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        self.step += 1
        return loss, norm

    def _backward(self, *batch: Tensor) -> Tensor:
        """Gradients of the mean loss of a batch, in accumulation_steps parts; the loss."""
        count = self.settings.accumulation_steps
        losses = []
        for part in zip(*(tensor.tensor_split(count) for tensor in batch), strict=True):
            with self._exchange(last=len(losses) == count - 1):
                with self._precision():
                    loss = flow_loss(self.velocity, *part).sum() / len(batch[0])
                self.scaler.scale(loss).backward()
            losses.append(loss.detach())
        return torch.stack(losses).sum()

    def _exchange(self, last: bool) -> contextlib.AbstractContextManager:
        # gradients need to meet those of other processes only once, when they are whole
        wait = self.world.size > 1 and not last
        return self.velocity.no_sync() if wait else contextlib.nullcontext()

    @property
    def learning_rate(self) -> float:
        """Linear warm-up, then constant: a longer training continues the same trajectory."""
        warmup = min(1.0, (self.step + 1) / max(1, self.settings.warmup_steps))
        return self.settings.learning_rate * warmup

    @torch.no_grad()
    def losses(self, latents: Tensor, labels: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """Loss a sample (B,) without training, of the weights in use."""
        batch = self._placed(latents, labels, noise, t)
        with self._precision():
            return flow_loss(self.velocity, *batch).cpu()

    @contextlib.contextmanager
    def averaged(self) -> Iterator[LiquidNet]:
        """The network with its averaged weights, for as long as the context lasts."""
        self.ema.store(self.model.parameters())
        self.ema.copy_to(self.model.parameters())
        self.model.eval()
        try:
            yield self.model
        finally:
            self.ema.restore(self.model.parameters())
            self.model.train()

    def state(self) -> tuple[dict[str, Tensor], dict]:
        """Everything that the next step depends on: tensors, and facts that JSON can hold."""
        tensors: dict[str, Tensor] = {}
        for name, parameter, average in self._named():
            parts = {"model": parameter, "ema": average} | self.optimizer.state.get(parameter, {})
            tensors |= {f"{part}.{name}": value for part, value in parts.items()}
        facts = {
            "step": self.step,
            "ema_step": self.ema.optimization_step,
            "scaler": self.scaler.state_dict(),
        }
        return {name: value.detach().contiguous() for name, value in tensors.items()}, facts

    @torch.no_grad()
    def load_state(self, tensors: dict[str, Tensor], facts: dict) -> None:
        """The inverse of `state`; the state of another device or precision will do."""
        for name, parameter, average in self._named():
            parameter.copy_(tensors[f"model.{name}"])
            average.copy_(tensors[f"ema.{name}"])
            if f"step.{name}" in tensors:  # AdamW has no state before its first step
                # fused AdamW walks through memory, so moments must lie as the parameter does
                self.optimizer.state[parameter] = {
                    key: torch.empty_like(parameter).copy_(tensors[f"{key}.{name}"])
                    for key in ("exp_avg", "exp_avg_sq")
                } | {"step": tensors[f"step.{name}"].to(self.device, copy=True)}
        if facts["scaler"]:  # empty after a training without loss scaling
            self.scaler.load_state_dict(facts["scaler"])
        self.step, self.ema.optimization_step = facts["step"], facts["ema_step"]

    def _named(self) -> Iterator[tuple[str, nn.Parameter, Tensor]]:
        """Name, value and average of each parameter."""
        named = self.model.named_parameters()
        for (name, parameter), average in zip(named, self.ema.shadow_params, strict=True):
            yield name, parameter, average

    def _placed(self, *tensors: Tensor) -> list[Tensor]:
        return [tensor.to(self.device, non_blocking=True) for tensor in tensors]

    def _precision(self) -> torch.autocast:
        enabled = self.dtype != torch.float32
        return torch.autocast(self.device.type, self.dtype, enabled=enabled)


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


def _parameter_groups(model: nn.Module, weight_decay: float) -> list[dict]:
    """Decay matrices and convolutions; never rho, biases, norms, position or class embedding."""
    decayed = {
        f"{name}.weight"
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear | nn.Conv2d | nn.ConvTranspose2d)
    }
    named = dict(model.named_parameters())
    return [
        {"params": [p for n, p in named.items() if n in decayed], "weight_decay": weight_decay},
        {"params": [p for n, p in named.items() if n not in decayed], "weight_decay": 0.0},
    ]
