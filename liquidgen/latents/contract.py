"""The latent contract: specification shared by writers and readers of latents."""

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, model_validator

from liquidgen.config.settings import AutoencoderSettings, Crop
from liquidgen.utils.errors import UserError
from liquidgen.utils.image_size import ImageSize, sides

if TYPE_CHECKING:
    from torch import Tensor


def latent_shape(autoencoder: AutoencoderSettings, image_size: int | str) -> tuple[int, int, int]:
    """Return the shape (C, h, w) of the latents of an image."""
    height, width = (side // autoencoder.downscale for side in sides(image_size))
    return autoencoder.channels, height, width


def sample_size(latent_shape: tuple[int, int, int]) -> int | list[int]:
    """Return the size of latents (C, h, w) as LiquidNet takes it: one number for a square."""
    _, height, width = latent_shape
    return height if height == width else [height, width]


class LatentContract(BaseModel):
    """Specification of a folder of latents; part of `manifest.json` and `model.json`.

    Attributes:
        autoencoder: The selected block of params.yaml.
        autoencoder_digest: SHA-256 of its weights.
        image_size: Size of the encoded images in px; see `sides`.
        crop: How they were cropped, see `ImageTransform`.
        crop_seed: Seed of random crops and of variants.
        flip: Whether each training image, with its variants, was also encoded mirrored.
        augmented_variants: Augmented variants of each training image that were encoded, too.
        max_upscale: Images that would have been enlarged by more than this factor were skipped.
        max_pixels: Images of which more pixels than this would have been decoded were skipped.
        stretch_to_maximum: Whether 16-bit images were scaled by their own largest value.
        dtype: Type of the stored latents.
        mean: Mean per channel of the stored latents of the train split.
        std: Standard deviation per channel of the same.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    autoencoder: AutoencoderSettings
    autoencoder_digest: str
    image_size: ImageSize
    crop: Crop
    crop_seed: int
    flip: bool
    # not written if 0, as `stretch_to_maximum`
    augmented_variants: int = Field(default=0, ge=0, exclude_if=lambda count: not count)
    max_upscale: float
    max_pixels: int
    # not written if False: latents and models from before it have none
    stretch_to_maximum: bool = Field(default=False, exclude_if=lambda stretch: not stretch)
    dtype: Literal["float16"]
    mean: tuple[FiniteFloat, ...]
    std: tuple[Annotated[FiniteFloat, Field(gt=0)], ...]

    @model_validator(mode="after")
    def _fits_autoencoder(self) -> "LatentContract":
        channels, downscale = self.autoencoder.channels, self.autoencoder.downscale
        if any(side % downscale for side in sides(self.image_size)):
            raise ValueError(f"image_size {self.image_size} is no multiple of {downscale}")
        for name, values in (("mean", self.mean), ("std", self.std)):
            if len(values) != channels:
                raise ValueError(f"{name} has {len(values)} values for {channels} channels")
        return self

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """Shape (C, h, w) of a sample."""
        return latent_shape(self.autoencoder, self.image_size)

    def samples_per_image(self, split: str) -> int:
        """Return how many samples a split has of each encoded image."""
        return (1 + self.variants_per_image(split)) * (1 + (self.flip and split == "train"))

    def variants_per_image(self, split: str) -> int:
        """Return how many variants a split has of each image; they are its last samples."""
        return self.augmented_variants if split == "train" else 0

    def normalize(self, latents: "Tensor") -> "Tensor":
        """Normalize latents (B, C, h, w) to mean 0 and standard deviation 1 in each channel."""
        return (latents - self._per_channel(latents, self.mean)) / self._per_channel(
            latents, self.std
        )

    def denormalize(self, latents: "Tensor") -> "Tensor":
        """Invert `normalize`, to latents that the autoencoder can decode."""
        return latents * self._per_channel(latents, self.std) + self._per_channel(
            latents, self.mean
        )

    def check_autoencoder(self, digest: str) -> None:
        """Compare the weights of an autoencoder with those that encoded the latents.

        Raises:
            UserError: The digest differs.
        """
        if digest != self.autoencoder_digest:
            path = self.autoencoder.path or "the builtin autoencoder"
            raise UserError(
                f"{path}: weights have digest {digest[:12]}, but the latents were made with "
                f"{self.autoencoder_digest[:12]}; run `dvc repro -s -f encode`, then "
                "`dvc repro`, or restore the weights"
            )

    @staticmethod
    def _per_channel(latents: "Tensor", values: tuple[float, ...]) -> "Tensor":
        return latents.new_tensor(values).view(1, -1, 1, 1)
