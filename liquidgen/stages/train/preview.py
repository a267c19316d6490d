"""A sample grid during training: the same noise every time, so that progress shows."""

from collections.abc import Callable

import torch
from PIL import Image
from torch import Tensor

from liquidgen.compute.device import empty_cache
from liquidgen.figures.grid import class_grid, to_images
from liquidgen.flow.matching import guided, integrate
from liquidgen.latents.contract import LatentContract
from liquidgen.stages.train.learner import Learner, generator_for

ROWS, COLUMNS = 16, 4
STEPS, GUIDANCE = 20, 2.0  # quick and good enough to judge progress


@torch.no_grad()
def preview_grid(
    learner: Learner,
    contract: LatentContract,
    classes: tuple[str, ...] | None,
    check: Callable[[], None],
) -> Image.Image:
    """Images of the first classes from the averaged weights, one row a class.

    `check` is called before each step of the solver and each row, and may raise to leave.
    """
    # loaded for this picture alone: training itself holds no autoencoder in memory
    from liquidgen.latents.autoencoder import load_autoencoder

    names = (classes or ())[:ROWS]
    rows = len(names) or COLUMNS
    noise = torch.randn((rows * COLUMNS, *contract.latent_shape), generator=generator_for(0, 0)).to(
        learner.device
    )
    with learner.averaged() as model:
        chosen = torch.arange(rows) if names else torch.full((rows,), model.null_label)
        labels = chosen.repeat_interleave(COLUMNS).to(learner.device)
        guidance = GUIDANCE if names and learner.settings.label_dropout else 1
        velocity = guided(model, model.null_label, guidance)

        def checked(x_t: Tensor, t: Tensor, labels: Tensor) -> Tensor:
            check()
            return velocity(x_t, t, labels)

        latents = contract.denormalize(integrate(checked, noise, labels, STEPS))
    autoencoder = load_autoencoder(contract.autoencoder, learner.device)
    contract.check_autoencoder(autoencoder.digest)
    drawn = []
    for row in latents.split(COLUMNS):  # all at once can take minutes on a CPU
        check()
        drawn.append(to_images(autoencoder.decode(row)))
    del autoencoder
    empty_cache(learner.device)
    return class_grid(drawn, names)
