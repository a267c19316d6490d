"""Previews: the first images that the stage sample would draw from the weights so far."""

from collections.abc import Callable

import torch
from PIL import Image

from liquidgen.compute.device import empty_cache
from liquidgen.config.settings import SampleSettings
from liquidgen.figures.grid import class_grid, to_images
from liquidgen.flow.solvers import scheduler_of
from liquidgen.generator.draw import cycled_labels, draw_latents, usable_guidance
from liquidgen.generator.model_folder import ModelMetadata
from liquidgen.latents.autoencoder import load_autoencoder
from liquidgen.stages.train.learner import Learner
from liquidgen.utils.memory import Batches

ROWS = 16  # largest number of classes
COLUMNS = 4  # images per class; without classes also the number of rows


@torch.no_grad()
def preview_grid(
    learner: Learner,
    metadata: ModelMetadata,
    settings: SampleSettings,
    check: Callable[[], None],
) -> Image.Image:
    """Draw the first images of the stage sample from the averaged weights, one row per class.

    Image number i of the grid is image number i of the stage sample, with its noise, label, solver,
    steps and guidance, in the precision of the training: previews of a training differ from one
    another by their weights alone.

    Args:
        learner: Its averaged weights are drawn from.
        metadata: Classes and latent contract of the model.
        settings: Settings of the stage sample.
        check: Called after each call of the network and before each few images are decoded; may
            raise to stop.

    Returns:
        The grid, the first ROWS classes as rows.

    Raises:
        UserError: The latents are not finite, the autoencoder is not the one of the latents, or
            there is not enough memory to draw one image.
    """
    # The numbers of the first images of each class that is shown, by columns.
    classes = metadata.classes or ()
    rows = min(len(classes), ROWS) or COLUMNS
    stride = len(classes) or rows
    numbers = [column * stride + row for column in range(COLUMNS) for row in range(rows)]
    # The stage sample refuses guidance of a model without null labels; a preview goes without.
    guidance_scale = 1.0
    if metadata.label_dropout:
        guidance_scale = usable_guidance(metadata, settings.guidance_scale)

    # Latents, in batches of the stage sample.
    with learner.averaged() as model:

        def draw_numbers(batch: list[int]) -> torch.Tensor:
            return draw_latents(
                model,
                metadata,
                cycled_labels(metadata, batch),
                [(settings.seed, number) for number in batch],
                scheduler=scheduler_of(settings.solver),
                num_inference_steps=settings.num_inference_steps,
                guidance_scale=guidance_scale,
                dtype=learner.dtype,
                after_step=check,
            )

        batches = Batches(settings.batch_size, "sample.batch_size")
        latents = torch.cat(list(batches.map(draw_numbers, numbers)))

    # Images, a few at a time, because decoding all can take minutes on a CPU. The autoencoder is
    # loaded for each preview: training itself holds none in memory.
    autoencoder = load_autoencoder(metadata.contract.autoencoder, learner.device)
    metadata.contract.check_autoencoder(autoencoder.digest)
    images = []
    for part in latents.split(COLUMNS):
        check()
        images += to_images(autoencoder.decode(part))
    del autoencoder
    empty_cache(learner.device)
    return class_grid([images[row::rows] for row in range(rows)], classes[:ROWS])
