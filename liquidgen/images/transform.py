"""The options that turn an image file into a square of pixels."""

from pydantic import BaseModel, ConfigDict

from liquidgen.config.settings import Crop, EncodeSettings


class ImageTransform(BaseModel):
    """Options of `decode`. The latent contract has fields of the same names.

    Attributes:
        image_size: Side S of the square in px.
        crop: "center" and "random" cut a square as wide as the shorter side, from the middle or
            from a random position; "letterbox" cuts nothing off and pads the shorter side with
            white bars.
        crop_seed: Seed of random crops.
        max_upscale: Images that would be enlarged by more than this factor are refused.
        max_pixels: Images of which more pixels than this would be decoded are refused.
        stretch_to_maximum: Whether 16-bit images are scaled by their own largest value.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    image_size: int
    crop: Crop
    crop_seed: int
    max_upscale: float
    max_pixels: int
    stretch_to_maximum: bool = False

    @classmethod
    def of(cls, settings: EncodeSettings, image_size: int) -> "ImageTransform":
        """Take the options of these names from the section `encode` of params.yaml."""
        options = settings.model_dump(include=set(cls.model_fields))
        return cls(image_size=image_size, crop_seed=settings.seed, **options)
