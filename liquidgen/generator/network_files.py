"""Checks the files of a network before it is built: sizes come from weights, not from promises."""

import re
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any

from diffusers.utils import CONFIG_NAME, SAFETENSORS_WEIGHTS_NAME
from pydantic import BaseModel, Field

from liquidgen.latents.weights import weight_shapes
from liquidgen.models.layers.levels import Level, read_levels
from liquidgen.utils.errors import UserError
from liquidgen.utils.files import REMEDY, read_json

Positive = Annotated[int, Field(ge=1)]
BLOCK = re.compile(r"blocks\.(\d+)\.")


class NetworkConfig(BaseModel):
    """The arguments of LiquidNet in config.json, beside what diffusers writes there."""

    in_channels: Positive
    sample_size: Positive
    num_classes: Annotated[int, Field(ge=0)]
    width: Positive | list[Positive]
    depth: Positive | list[Positive]
    cond_dim: Positive
    patch_size: Positive
    block: str
    block_settings: dict[str, Any]

    def shapes(self) -> dict[str, list[int]]:
        """Return the shapes of the weights outside the blocks that tell the sizes.

        Raises:
            UserError: Width and depth are of no network.
        """
        side = self.sample_size // self.patch_size
        widths = [level.width for level in self.levels()]
        return {
            "patch_embedding.weight": [widths[0], self.in_channels, *2 * [self.patch_size]],
            "position.weight": [1, widths[0], side, side],
            "condition.label.weight": [self.num_classes + 1, self.cond_dim],
            **{
                f"down.{i}.mix.weight": [below, 4 * above]
                for i, (above, below) in enumerate(pairwise(widths))
            },
        }

    def levels(self) -> list[Level]:
        """Return the levels of the network."""
        return read_levels(self.width, self.depth)


def check_network(
    folder: Path,
    classes: tuple[str, ...] | None,
    latent_shape: tuple[int, int, int],
    remedy: str = REMEDY,
) -> None:
    """Check that a network's config.json fits its weights, the classes and the latents.

    A forged one would else ask for any amount of memory before anything is compared.

    Args:
        folder: Folder with config.json and the weights.
        classes: Names of the classes; None: an unconditional model.
        latent_shape: Shape (C, h, w) of the latents.
        remedy: What to do about damaged files, for the message.

    Raises:
        UserError: A file is missing or unreadable, or they do not fit.
    """
    config = read_json(folder / CONFIG_NAME, NetworkConfig, remedy)
    for key, found, expected in (
        ("num_classes", config.num_classes, len(classes or ())),
        ("in_channels", config.in_channels, latent_shape[0]),
        ("sample_size", config.sample_size, latent_shape[1]),
    ):
        if found != expected:
            raise UserError(
                f"{folder / CONFIG_NAME}: {key} is {found}, but the model has {expected}; {remedy}"
            )
    shapes = weight_shapes(folder / SAFETENSORS_WEIGHTS_NAME, remedy)
    depth = len({match[1] for name in shapes if (match := BLOCK.match(name))})
    try:
        expected_depth = sum(level.depth for level in config.levels())
    except UserError as error:
        raise UserError(f"{folder / CONFIG_NAME}: {error}; {remedy}") from None
    if expected_depth != depth:
        raise UserError(
            f"{folder / CONFIG_NAME}: depth is {config.depth}, but the weights have {depth} "
            f"blocks; {remedy}"
        )
    for name, shape in config.shapes().items():
        if shapes.get(name) != shape:
            raise UserError(
                f"{folder / CONFIG_NAME}: asks for {name} of shape {shape}, but the weights have "
                f"{shapes.get(name, 'none')}; {remedy}"
            )
