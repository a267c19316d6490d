"""One interface to three autoencoder classes of diffusers: pixels to latents and back."""

from typing import TYPE_CHECKING

import torch

from liquidgen.compute.precision import autoencoder_dtype
from liquidgen.config.settings import AutoencoderSettings
from liquidgen.latents.weights import KINDS, checked_folder, read_weights
from liquidgen.utils.errors import UserError

if TYPE_CHECKING:
    from diffusers import ModelMixin

MAX_PIXELS_PER_CALL = 2**19  # px: 8 images of 256 px, 128 of 64 px
MAX_PIXELS_PER_CALL_ON_CPU = 2**16  # px: activations that fit into the caches are up to 25% faster
RANGE_TOLERANCE = 1e-3  # beyond [-1, 1], for rounding


class Autoencoder:
    """A frozen autoencoder with its scaling convention: latents = (raw - shift) * scale.

    Pixels are (B, 3, H, W) in [-1, 1], with sides that are multiples of `downscale`; latents are
    (B, channels, H/downscale, W/downscale), of about unit variance. Both are fp32, whatever the
    precision of the network. Batches are split, images never: tiling changes the statistics that
    norms see and leaves seams.

    Args:
        model: An autoencoder of diffusers.
        settings: The block of params.yaml that describes it.
        digest: SHA-256 of its weights file.
    """

    def __init__(self, model: "ModelMixin", settings: AutoencoderSettings, digest: str):
        self._model = model
        self._settings = settings
        self._digest = digest
        self._kind = KINDS[settings.kind]

    @property
    def model(self) -> "ModelMixin":
        """The autoencoder of diffusers."""
        return self._model

    @property
    def channels(self) -> int:
        """Number of channels of the latents."""
        return self._settings.channels

    @property
    def downscale(self) -> int:
        """Pixels per latent along one side."""
        return self._settings.downscale

    @property
    def digest(self) -> str:
        """SHA-256 of the weights file."""
        return self._digest

    @torch.inference_mode()
    def encode(self, pixels: torch.Tensor) -> torch.Tensor:
        """Encode pixels to latents; of a distribution its mode is taken.

        Raises:
            UserError: The pixels have another shape, dtype or range.
        """
        self._check_pixels(pixels)
        # split: the activations of a whole batch would not fit into the memory of a GPU
        size = pixels.shape[2] * pixels.shape[3]
        parts = pixels.split(images_per_call(size, self._model.device))
        return torch.cat([self._encode(part) for part in parts])

    @torch.inference_mode()
    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """Decode latents to pixels, clamped to [-1, 1].

        Raises:
            UserError: The latents have another shape or dtype.
        """
        self._check_latents(latents)
        size = latents.shape[2] * latents.shape[3] * self.downscale**2
        parts = latents.split(images_per_call(size, self._model.device))
        return torch.cat([self._decode(part) for part in parts])

    def _encode(self, pixels: torch.Tensor) -> torch.Tensor:
        raw = self._kind.latents_of(self._model.encode(self._to_model(pixels))).float()
        return ((raw - self._settings.shift) * self._settings.scale).contiguous()

    def _decode(self, latents: torch.Tensor) -> torch.Tensor:
        raw = self._to_model(latents / self._settings.scale + self._settings.shift)
        return self._model.decode(raw).sample.float().clamp(-1, 1).contiguous()

    def _to_model(self, tensor: torch.Tensor) -> torch.Tensor:
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
        if not -1 - RANGE_TOLERANCE <= low <= high <= 1 + RANGE_TOLERANCE:  # False for NaN, too
            raise UserError(f"pixels: values from {low:g} to {high:g}; need [-1, 1]")

    def _check_latents(self, latents: torch.Tensor) -> None:
        if latents.dtype != torch.float32:
            raise UserError(f"latents: dtype {latents.dtype}; need torch.float32")
        if latents.ndim != 4 or latents.shape[1] != self.channels:
            shape = tuple(latents.shape)
            raise UserError(f"latents: shape {shape}; need (B, {self.channels}, h, w)")


def images_per_call(pixels: int, device: torch.device) -> int:
    """Return the number of images, of `pixels` pixels each, in one call of an autoencoder."""
    limit = MAX_PIXELS_PER_CALL_ON_CPU if device.type == "cpu" else MAX_PIXELS_PER_CALL
    return max(1, limit // pixels)


def load_autoencoder(settings: AutoencoderSettings, device: str | torch.device) -> Autoencoder:
    """Load the autoencoder of `settings`, downloading it from the hub if it is not cached.

    Raises:
        UserError: Its folder does not hold this autoencoder, or the download fails.
    """
    folder, digest = checked_folder(settings)
    model = read_weights(folder, KINDS[settings.kind].class_name)
    dtype = autoencoder_dtype(settings.precision, torch.device(device))
    model = model.eval().requires_grad_(False)
    model = model.to(device, dtype, memory_format=torch.channels_last)
    return Autoencoder(model, settings, digest)
