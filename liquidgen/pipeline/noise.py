"""Where the noise of a call comes from: numbered seeds, generators of torch, or given latents."""

from collections.abc import Callable, Iterable, Sequence

import torch
from diffusers.utils.torch_utils import randn_tensor
from torch import Tensor

from liquidgen.generator.draw import Seed, noise_of
from liquidgen.pipeline.arguments import resolve_seeds
from liquidgen.utils.errors import UserError
from liquidgen.utils.text import shown

Noise = Callable[[slice], Tensor]  # the images of a batch -> their noise (B, C, h, w)
Generators = torch.Generator | Sequence[torch.Generator]


def noise_source(
    seed: int | Sequence[int | Seed] | None,
    generator: Generators | None,
    latents: Tensor | None,
    shape: tuple[int, int, int, int],
    device: torch.device,
) -> Noise:
    """Return the noise of a call; without any of the three it is that of seed 0.

    Args:
        seed: See `resolve_seeds`.
        generator: One for all images, or one per image, as everywhere in diffusers.
        latents: The noise itself.
        shape: Shape (N, C, h, w) of the noise of all images.
        device: Device to draw on.

    Raises:
        UserError: More than one is given, or one does not fit the images.
    """
    choices = {"seed": seed, "generator": generator, "latents": latents}
    given = [name for name, value in choices.items() if value is not None]
    if len(given) > 1:
        raise UserError(f"{' and '.join(given)}: each of them says what the noise is; give one")
    if latents is not None:
        noise = _checked(latents, shape).to(device, torch.float32)
    elif generator is not None:
        noise = _drawn(generator, shape, device)
    else:
        seeds = resolve_seeds(0 if seed is None else seed, shape[0])
        return lambda batch: noise_of(seeds[batch], shape[1:]).to(device)
    return lambda batch: noise[batch]


def _checked(latents: object, shape: tuple[int, ...]) -> Tensor:
    if not isinstance(latents, Tensor) or not latents.is_floating_point():
        kind = latents.dtype if isinstance(latents, Tensor) else type(latents).__name__
        raise UserError(f"latents: {kind}; must be a tensor of floating-point numbers")
    if latents.shape != shape:
        raise UserError(
            f"latents: shape {tuple(latents.shape)}; must be {shape}: images, channels, height and "
            "width"
        )
    return latents


def _drawn(generator: Generators, shape: tuple[int, ...], device: torch.device) -> Tensor:
    """Draw the noise of all images at once, in fp32, whatever the batches and the dtype."""
    generators = list(generator) if isinstance(generator, Iterable) else [generator]
    if not all(isinstance(one, torch.Generator) for one in generators):
        rule = "must be a torch.Generator, or a list of one per image"
        raise UserError(f"generator: {shown(generator)}; {rule}")
    if not isinstance(generator, torch.Generator) and len(generators) != shape[0]:
        raise UserError(
            f"generator: {len(generators)} of them for {shape[0]} images; give one per image"
        )
    try:
        return randn_tensor(shape, generator=generators, device=device, dtype=torch.float32)
    except ValueError as error:  # a generator of a GPU for a pipeline on the CPU
        raise UserError(f"generator: {error} Make it on the device of the pipeline") from None
