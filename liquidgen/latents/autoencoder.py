"""Pixels <-> latents: one interface over three autoencoder classes of diffusers."""

import torch

from liquidgen.compute.precision import autoencoder_dtype
from liquidgen.config.settings import AutoencoderSettings
from liquidgen.latents.weights import KINDS, checked_folder, read_weights
from liquidgen.utils.errors import UserError

MAX_PIXELS_PER_CALL = 2**19  # px: 8 images of 256 px, 128 of 64 px
MAX_PIXELS_PER_CALL_ON_CPU = 2**16  # px: what stays in a core's caches goes up to a quarter faster
RANGE_SLACK = 1e-3  # beyond [-1, 1], for rounding


class Autoencoder:
    """A frozen autoencoder, and its latent convention: latents = (raw - shift) * scale.

    | tensor  | shape                                     | range                |
    |---------|-------------------------------------------|----------------------|
    | pixels  | (B, 3, H, W), sides multiples of downscale | [-1, 1]              |
    | latents | (B, channels, H/downscale, W/downscale)   | about one on average |

    Pixels and latents are fp32, whatever the precision of the work between them. Batches go
    through in slices, images whole: tiles would be normalized apart from one another, and show.
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
        size = pixels.shape[2] * pixels.shape[3]
        parts = pixels.split(images_per_call(size, self._model.device))
        return torch.cat([self._encode(part) for part in parts])

    @torch.inference_mode()
    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """Pixels of latents, clamped to [-1, 1]; raises UserError for other shapes."""
        self._check_latents(latents)
        size = latents.shape[2] * latents.shape[3] * self.downscale**2
        parts = latents.split(images_per_call(size, self._model.device))
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


def images_per_call(pixels: int, device: torch.device) -> int:
    """How many images of so many pixels go through an autoencoder together."""
    return max(
        1, (MAX_PIXELS_PER_CALL_ON_CPU if device.type == "cpu" else MAX_PIXELS_PER_CALL) // pixels
    )


def load_autoencoder(settings: AutoencoderSettings, device: str | torch.device) -> Autoencoder:
    """The autoencoder of `settings`, from the hub if its cache lacks it.

    Raises UserError when its folder does not hold it, or the hub does not give it.
    """
    folder, digest = checked_folder(settings)
    model = read_weights(folder, KINDS[settings.kind].class_name)
    dtype = autoencoder_dtype(settings.precision, torch.device(device))
    model = model.eval().requires_grad_(False)
    model = model.to(device, dtype, memory_format=torch.channels_last)
    return Autoencoder(model, settings, digest)
