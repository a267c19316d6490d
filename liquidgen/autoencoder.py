"""Pixels <-> latents: one interface over three autoencoder classes of diffusers."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from liquidgen.errors import UserError
from liquidgen.files import file_sha256
from liquidgen.hub.place import SCHEME, model_folder
from liquidgen.hub.snapshot import cached, fetch
from liquidgen.paths import own_path
from liquidgen.settings import AutoencoderSettings

SHIPPED = Path(__file__).parent / "assets" / "autoencoder"
CONFIG, WEIGHTS = "config.json", "diffusion_pytorch_model.safetensors"
AT_ONCE = 2**19  # px: 8 images of 256 px, 128 of 64 px
RANGE_SLACK = 1e-3  # beyond [-1, 1], for rounding


@dataclass(frozen=True)
class Kind:
    """What differs between the classes."""

    class_name: str  # in diffusers, and in config.json
    stages: str  # key of the widths of the encoder's stages: each but the first halves the side
    latents_of: Callable[[Any], torch.Tensor]  # what `encode` returned -> raw latents


KINDS = {
    "dc": Kind("AutoencoderDC", "encoder_block_out_channels", lambda output: output.latent),
    "tiny": Kind("AutoencoderTiny", "block_out_channels", lambda output: output.latents),
    "kl": Kind("AutoencoderKL", "block_out_channels", lambda output: output.latent_dist.mode()),
}


class Autoencoder:
    """A frozen autoencoder, and its latent convention: latents = (raw - shift) * scale.

    | tensor  | shape                                     | range                |
    |---------|-------------------------------------------|----------------------|
    | pixels  | (B, 3, H, W), sides multiples of downscale | [-1, 1]              |
    | latents | (B, channels, H/downscale, W/downscale)   | about one on average |

    Pixels and latents are fp32, whatever the precision of the work between them. Batches go
    through in slices, images whole: tiles would be normalised apart from one another, and show.
    """

    def __init__(self, model: torch.nn.Module, settings: AutoencoderSettings, digest: str):
        self._model, self._settings, self._digest = model, settings, digest
        self._kind = KINDS[settings.kind]

    @property
    def model(self) -> torch.nn.Module:
        """The autoencoder as diffusers has it."""
        return self._model

    @property
    def channels(self) -> int:
        """Channels of the latents."""
        return self._settings.channels

    @property
    def downscale(self) -> int:
        """Pixels a latent, along one side."""
        return self._settings.downscale

    @property
    def digest(self) -> str:
        """SHA-256 of the weights file."""
        return self._digest

    @torch.inference_mode()
    def encode(self, pixels: torch.Tensor) -> torch.Tensor:
        """Latents of pixels, without sampling; raises UserError for other shapes or ranges."""
        self._check_pixels(pixels)
        # in slices: activations of a large encoder over a whole batch would not fit on a card
        parts = pixels.split(max(1, AT_ONCE // (pixels.shape[2] * pixels.shape[3])))
        return torch.cat([self._encode(part) for part in parts])

    @torch.inference_mode()
    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """Pixels of latents, clamped to [-1, 1]; raises UserError for other shapes."""
        self._check_latents(latents)
        pixels = latents.shape[2] * latents.shape[3] * self.downscale**2
        parts = latents.split(max(1, AT_ONCE // pixels))
        return torch.cat([self._decode(part) for part in parts])

    def _encode(self, pixels: torch.Tensor) -> torch.Tensor:
        raw = self._kind.latents_of(self._model.encode(self._placed(pixels))).float()
        return ((raw - self._settings.shift) * self._settings.scale).contiguous()

    def _decode(self, latents: torch.Tensor) -> torch.Tensor:
        raw = self._placed(latents / self._settings.scale + self._settings.shift)
        return self._model.decode(raw).sample.float().clamp(-1, 1).contiguous()

    def _placed(self, tensor: torch.Tensor) -> torch.Tensor:
        model = self._model
        return tensor.to(model.device, model.dtype, memory_format=torch.channels_last)

    def _check_pixels(self, pixels: torch.Tensor) -> None:
        if pixels.dtype != torch.float32:
            raise UserError(f"pixels: dtype {pixels.dtype}; need torch.float32 in [-1, 1]")
        if pixels.ndim != 4 or pixels.shape[1] != 3 or pixels.numel() == 0:
            raise UserError(f"pixels: shape {tuple(pixels.shape)}; need (B, 3, H, W)")
        if any(side % self.downscale for side in pixels.shape[2:]):
            raise UserError(
                f"pixels: {pixels.shape[3]}x{pixels.shape[2]} px; the autoencoder needs sides that"
                f" are multiples of {self.downscale}: change image_size"
            )
        low, high = (value.item() for value in pixels.aminmax())
        if not -1 - RANGE_SLACK <= low <= high <= 1 + RANGE_SLACK:  # NaN fails, too
            raise UserError(f"pixels: values from {low:g} to {high:g}; need [-1, 1]")

    def _check_latents(self, latents: torch.Tensor) -> None:
        if latents.dtype != torch.float32:
            raise UserError(f"latents: dtype {latents.dtype}; need torch.float32")
        if latents.ndim != 4 or latents.shape[1] != self.channels:
            shape = tuple(latents.shape)
            raise UserError(f"latents: shape {shape}; need (B, {self.channels}, h, w)")


def load_autoencoder(settings: AutoencoderSettings, device: str | torch.device) -> Autoencoder:
    """The autoencoder of `settings`, from the hub if its cache lacks it.

    Raises UserError when its folder does not hold it, or the hub does not give it.
    """
    folder, digest = _checked(settings)
    model = _load_weights(folder, KINDS[settings.kind].class_name)
    dtype = working_dtype(settings.precision, torch.device(device))
    model = model.eval().requires_grad_(False)
    model = model.to(device, dtype, memory_format=torch.channels_last)
    return Autoencoder(model, settings, digest)


def weights_digest(settings: AutoencoderSettings) -> str:
    """SHA-256 of the weights file of `settings`, as `digest` of the loaded autoencoder gives it.

    Raises UserError as `load_autoencoder` does.
    """
    return _checked(settings)[1]


def working_dtype(precision: str, device: torch.device) -> torch.dtype:
    """Half precision where it is asked for and the device has it by nature, else fp32."""
    if device.type != "cuda":
        return torch.float32
    # a T4 only emulates bf16, and says that it supports it
    if precision == "bf16" and torch.cuda.is_bf16_supported(including_emulation=False):
        return torch.bfloat16
    return torch.float16 if precision == "fp16" else torch.float32


def _checked(settings: AutoencoderSettings) -> tuple[Path, str]:
    """Folder and digest of the weights, after both files were compared with the settings."""
    folder = _checked_folder(settings)
    digest = file_sha256(folder / WEIGHTS)
    if settings.sha256 is not None and digest != settings.sha256:
        raise UserError(
            f"{settings.path}: weights have sha256 {digest[:12]}, but the block's sha256 is "
            f"{settings.sha256[:12]}: they are others, or damaged; download them again, or correct "
            "the block"
        )
    return folder, digest


def _folder(settings: AutoencoderSettings) -> Path:
    if settings.path is None:
        return SHIPPED
    if settings.path.startswith(SCHEME):
        place, inside = model_folder(settings.path)
        names = [f"{inside}/{name}".lstrip("/") for name in (CONFIG, WEIGHTS)]
        # the copy in the cache first: weights are chosen once, and their digest is compared
        snapshot = cached(place, names) or fetch(place, names)
        return snapshot.folder / inside
    return own_path(settings.path)


def _checked_folder(settings: AutoencoderSettings) -> Path:
    """The autoencoder's folder, after its config.json was compared with the settings."""
    folder = _folder(settings)
    if not folder.is_dir():
        raise UserError(f"autoencoder path '{folder}': no such folder; correct the path")
    for name in (CONFIG, WEIGHTS):
        if not (folder / name).is_file():
            raise UserError(f"autoencoder path '{folder}': has no {name}; need diffusers' layout")
    kind, config = KINDS[settings.kind], _read_config(folder / CONFIG)
    if (found := config.get("_class_name")) != kind.class_name:
        known = [name for name, other in KINDS.items() if other.class_name == found]
        remedy = f"set kind to '{known[0]}'" if known else f"known kinds: {', '.join(KINDS)}"
        raise UserError(
            f"autoencoder path '{folder}': holds {found}, but kind '{settings.kind}' is"
            f" {kind.class_name}; {remedy}"
        )
    downscale = 2 ** (len(config.get(kind.stages, [])) - 1)
    for key, true in (("channels", config.get("latent_channels")), ("downscale", downscale)):
        if (value := getattr(settings, key)) != true:
            raise UserError(f"autoencoder {key}: {value}, but '{folder}' has {true}; set {true}")
    # what diffusers assumes of an AutoencoderKL that does not say
    if settings.precision == "fp16" and config.get("force_upcast", settings.kind == "kl"):
        raise UserError(
            f"autoencoder precision: fp16, but '{folder}' overflows in it (its {CONFIG} has "
            "force_upcast); set bf16 or fp32"
        )
    return folder


def _read_config(path: Path) -> dict:
    try:
        return json.loads(path.read_bytes())
    except ValueError as error:
        raise UserError(f"{path}: not valid JSON ({error}); download it again") from None


def _load_weights(folder: Path, class_name: str) -> torch.nn.Module:
    import diffusers  # takes seconds: only once the folder is known to be right
    from diffusers.utils import logging
    from safetensors import SafetensorError

    logging.set_verbosity_error()  # it warns of a harmless key in TAEF1's config.json
    try:
        model, info = getattr(diffusers, class_name).from_pretrained(
            folder,
            torch_dtype=torch.float32,
            use_safetensors=True,
            low_cpu_mem_usage=False,
            output_loading_info=True,
        )
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"{folder / WEIGHTS}: unreadable ({reason}); download it again") from None
    if info["missing_keys"]:
        raise UserError(
            f"{folder / WEIGHTS}: lacks {len(info['missing_keys'])} weights that config.json asks"
            f" for, such as {info['missing_keys'][0]}; download both again"
        )
    return model
