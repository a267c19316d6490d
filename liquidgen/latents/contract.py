"""The latent contract: everything that must agree between who writes latents and who reads them."""

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from liquidgen.config.settings import AutoencoderSettings, Crop
from liquidgen.utils.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor


class LatentContract(BaseModel):
    """What a file of latents means; travels in `manifest.json` and `model.json`.

    | field | meaning |
    |---|---|
    | autoencoder, autoencoder_digest | the selected block; digest of its weights |
    | image_size, crop, crop_seed | of the pixels that were encoded |
    | flip | each training image was also encoded mirrored |
    | max_upscale, max_pixels | images beyond these were skipped |
    | dtype | of the stored latents |
    | mean, std | per channel, of the stored latents of the train split |
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    autoencoder: AutoencoderSettings
    autoencoder_digest: str
    image_size: int
    crop: Crop
    crop_seed: int
    flip: bool
    max_upscale: float
    max_pixels: int
    dtype: Literal["float16"]
    mean: tuple[float, ...]
    std: tuple[Annotated[float, Field(gt=0)], ...]

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """(C, h, w) of one sample."""
        side = self.image_size // self.autoencoder.downscale
        return (self.autoencoder.channels, side, side)

    def normalize(self, latents: "Tensor") -> "Tensor":
        """Latents (B, C, h, w) with mean 0 and deviation 1 in each channel."""
        return (latents - self._per_channel(latents, self.mean)) / self._per_channel(
            latents, self.std
        )

    def denormalize(self, latents: "Tensor") -> "Tensor":
        """The inverse of `normalize`: latents that the autoencoder decodes."""
        return latents * self._per_channel(latents, self.std) + self._per_channel(
            latents, self.mean
        )

    def check_autoencoder(self, digest: str) -> None:
        """Refuse an autoencoder whose weights are not those that made the latents.

        Raises:
            UserError: the digest differs.
        """
        if digest != self.autoencoder_digest:
            path = self.autoencoder.path or "the builtin autoencoder"
            raise UserError(
                f"{path}: weights have digest {digest[:12]}, but the latents were made with "
                f"{self.autoencoder_digest[:12]}; run `dvc repro -f encode`, or restore the weights"
            )

    @staticmethod
    def _per_channel(latents: "Tensor", values: tuple[float, ...]) -> "Tensor":
        return latents.new_tensor(values).view(1, -1, 1, 1)
