"""Draws numbered images from a model."""

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from PIL import Image

from liquidgen.compute.precision import network_dtype
from liquidgen.config.settings import SampleSettings
from liquidgen.figures.grid import to_images
from liquidgen.flow.solvers import scheduler_of
from liquidgen.generator.draw import cycled_labels, draw_latents, usable_guidance
from liquidgen.generator.model_folder import SavedModel
from liquidgen.latents.autoencoder import load_autoencoder
from liquidgen.models.liquidnet import LiquidNet


@dataclass(frozen=True)
class Drawn:
    """Images of a model.

    Attributes:
        dtype: Precision of the network that drew them.
        images: All of them as PNG files, in order.
    """

    dtype: torch.dtype
    images: Iterator[bytes]


class Drawer:
    """Draws images of a model: image i is of class i modulo the number of classes.

    Args:
        model: The network, in evaluation mode.
        metadata: The network's classes, latent contract and digests.
        settings: Settings of the stage sample.
        device: Device to draw on.

    Attributes:
        dtype: Precision of the network.

    Raises:
        UserError: The solver is unknown, the device lacks the precision, the autoencoder is not
            the one of the model's latents, or guidance is asked of a model that was trained
            without null labels.
    """

    def __init__(
        self,
        model: LiquidNet,
        metadata: SavedModel,
        settings: SampleSettings,
        device: torch.device,
    ) -> None:
        self.dtype = network_dtype(settings.precision, device, "sample")
        self._model = model.to(device, memory_format=torch.channels_last)
        self._autoencoder = load_autoencoder(metadata.contract.autoencoder, device)
        metadata.contract.check_autoencoder(self._autoencoder.digest)
        self._guidance_scale = usable_guidance(metadata, settings.guidance_scale)
        self._scheduler = scheduler_of(settings.solver)
        self._metadata = metadata
        self._settings = settings

    def draw(self, numbers: Sequence[int]) -> list[bytes]:
        """Draw the images of these numbers as one batch; returns PNG files."""
        latents = draw_latents(
            self._model,
            self._metadata,
            cycled_labels(self._metadata, numbers),
            [(self._settings.seed, number) for number in numbers],
            scheduler=self._scheduler,
            num_inference_steps=self._settings.num_inference_steps,
            guidance_scale=self._guidance_scale,
            dtype=self.dtype,
        )
        return [_png(image) for image in to_images(self._autoencoder.decode(latents))]


def parts_of(settings: SampleSettings) -> list[range]:
    """Return the numbers of the images of each batch."""
    total, size = settings.num_images, settings.batch_size
    return [range(start, min(start + size, total)) for start in range(0, total, size)]


def _png(image: Image.Image) -> bytes:
    stream = io.BytesIO()
    image.save(stream, "png")
    return stream.getvalue()
