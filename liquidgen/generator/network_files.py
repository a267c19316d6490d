"""Checks the files of a network before it is built: sizes come from weights, not from promises."""

import re
from pathlib import Path
from typing import Annotated, Any

import torch
from diffusers.utils import CONFIG_NAME, SAFETENSORS_WEIGHTS_NAME
from pydantic import BaseModel, Field

from liquidgen.latents.contract import sample_size
from liquidgen.latents.weights import weight_shapes
from liquidgen.models.layers.levels import read_levels
from liquidgen.models.liquidnet import LiquidNet
from liquidgen.utils.errors import UserError
from liquidgen.utils.files import REMEDY, read_json

Positive = Annotated[int, Field(ge=1)]
BLOCK = re.compile(r"blocks\.(\d+)\.")


class NetworkConfig(BaseModel):
    """The arguments of LiquidNet in config.json, beside what diffusers writes there."""

    in_channels: Positive
    sample_size: Positive | list[Positive]
    num_classes: Annotated[int, Field(ge=0)]
    width: Positive | list[Positive]
    depth: Positive | list[Positive]
    cond_dim: Positive
    patch_size: Positive
    block: str
    block_settings: dict[str, Any]

    def num_blocks(self) -> int:
        """Return the number of blocks.

        Raises:
            UserError: Width and depth are of no network.
        """
        return sum(level.depth for level in read_levels(self.width, self.depth))

    def shapes(self) -> dict[str, list[int]]:
        """Return the shapes of all weights, from a network that takes no memory.

        Raises:
            UserError: There is no such network.
        """
        try:
            with torch.device("meta"):
                network = LiquidNet(**self.model_dump())
        except RuntimeError:  # of a tensor whose size in bytes is no 64-bit number
            raise UserError("asks for weights that no memory holds") from None
        return {name: list(weight.shape) for name, weight in network.state_dict().items()}


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
        ("sample_size", config.sample_size, sample_size(latent_shape)),
    ):
        if found != expected:
            raise UserError(
                f"{folder / CONFIG_NAME}: {key} is {found}, but the model has {expected}; {remedy}"
            )
    shapes = weight_shapes(folder / SAFETENSORS_WEIGHTS_NAME, remedy)
    depth = len({match[1] for name in shapes if (match := BLOCK.match(name))})
    try:
        # before the network is built: it has as many blocks as it says
        if config.num_blocks() != depth:
            raise UserError(f"depth is {config.depth}, but the weights have {depth} blocks")
        for name, shape in config.shapes().items():
            if shapes.get(name) != shape:
                held = shapes.get(name, "none")
                raise UserError(f"asks for {name} of shape {shape}, but the weights have {held}")
    except UserError as error:
        raise UserError(f"{folder / CONFIG_NAME}: {error}; {remedy}") from None
