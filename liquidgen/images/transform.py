"""The options that turn an image file into pixels of the chosen size."""

from pydantic import BaseModel, ConfigDict

from liquidgen.config.settings import Crop, EncodeSettings
from liquidgen.utils.image_size import ImageSize


class ImageTransform(BaseModel):
    """Options of `decode`. The latent contract has fields of the same names.

    Attributes:
        image_size: Size of the result in px, see `sides`.
        crop: "center" and "random" cut the largest rectangle of its proportions, from the middle or
            from a random position; "letterbox" cuts nothing off and pads with white bars.
        crop_seed: Seed of random crops and of variants.
        max_upscale: Images that would be enlarged by more than this factor are refused.
        max_pixels: Images of which more pixels than this would be decoded are refused.
        stretch_to_maximum: Whether 16-bit images are scaled by their own largest value.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    image_size: ImageSize
    crop: Crop
    crop_seed: int
    max_upscale: float
    max_pixels: int
    stretch_to_maximum: bool = False

    @classmethod
    def of(cls, settings: EncodeSettings, image_size: int | str) -> "ImageTransform":
        """Take the options of these names from the section `encode` of params.yaml."""
        options = settings.model_dump(include=set(cls.model_fields))
        return cls(image_size=image_size, crop_seed=settings.seed, **options)
