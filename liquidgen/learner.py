"""One learner: network, averaged weights, optimizer and precision, advanced a step at a time."""

import contextlib
from collections.abc import Iterator

import torch
from diffusers.training_utils import EMAModel
from torch import Tensor, nn

from liquidgen.errors import UserError
from liquidgen.flow import TIME_SAMPLINGS, drop_labels, flow_loss
from liquidgen.models.liquidnet import LiquidNet
from liquidgen.settings import TrainSettings


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
    return torch.Generator().manual_seed((seed << 32) + step)


class Learner:
    """Trains a network by flow matching on standardised latents."""

    def __init__(self, model: LiquidNet, settings: TrainSettings, device: torch.device) -> None:
        self.dtype = resolve_precision(settings.precision, device)
        layout = torch.channels_last if settings.channels_last else torch.contiguous_format
        self.model = model.to(device, memory_format=layout)
        self.model.checkpoint_blocks = settings.gradient_checkpointing
        self.settings, self.device = settings, device
        self.velocity = torch.compile(self.model) if settings.compile else self.model
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
        """One optimizer step on a batch; returns loss and gradient norm.

        A non-finite loss or gradient changes neither weights nor average; the caller sees it.
        """
        s, generator = self.settings, generator_for(self.settings.seed, self.step)
        batch = len(latents)
        noise = torch.randn(latents.shape, generator=generator)
        t = TIME_SAMPLINGS[s.time_sampling](torch.rand(batch, generator=generator))
        drop = torch.rand(batch, generator=generator)
        latents, labels, noise, t, drop = self._placed(latents, labels, noise, t, drop)
        labels = drop_labels(labels, self.model.null_label, s.label_dropout, drop)
        with self._precision():
            loss = flow_loss(self.velocity, latents, labels, noise, t).mean()
        self.scaler.scale(loss).backward()
        self.scaler.unscale_(self.optimizer)
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), s.grad_clip)
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate
        finite = bool(torch.isfinite(loss) & torch.isfinite(norm))
        if finite or self.scaler.is_enabled():  # the scaler itself skips a step that overflowed
            self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        if finite:
            self.ema.step(self.model.parameters())
        self.step += 1
        return loss.item(), norm.item()

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
        names = [name for name, _ in self.model.named_parameters()]
        tensors = {f"model.{name}": value for name, value in self.model.named_parameters()}
        tensors |= {
            f"ema.{name}": value for name, value in zip(names, self.ema.shadow_params, strict=True)
        }
        for index, moments in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{index}.{key}": value for key, value in moments.items()}
        facts = {
            "step": self.step,
            "ema_step": self.ema.optimization_step,
            "scaler": self.scaler.state_dict(),
        }
        return {name: value.detach().contiguous() for name, value in tensors.items()}, facts

    def load_state(self, tensors: dict[str, Tensor], facts: dict) -> None:
        """The inverse of `state`."""
        moments: dict[int, dict[str, Tensor]] = {}
        shadow = dict(zip(_names(self.model), self.ema.shadow_params, strict=True))
        with torch.no_grad():
            for name, parameter in self.model.named_parameters():
                parameter.copy_(tensors[f"model.{name}"])
                shadow[name].copy_(tensors[f"ema.{name}"])
        for name, value in tensors.items():
            if name.startswith("optimizer."):
                _, index, key = name.split(".")
                moments.setdefault(int(index), {})[key] = value
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": moments, "param_groups": groups})
        self.scaler.load_state_dict(facts["scaler"])
        self.step, self.ema.optimization_step = facts["step"], facts["ema_step"]

    def _placed(self, *tensors: Tensor) -> list[Tensor]:
        return [tensor.to(self.device, non_blocking=True) for tensor in tensors]

    def _precision(self) -> torch.autocast:
        enabled = self.dtype != torch.float32
        return torch.autocast(self.device.type, self.dtype, enabled=enabled)


def _names(model: nn.Module) -> list[str]:
    return [name for name, _ in model.named_parameters()]


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
