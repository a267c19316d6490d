"""Images in the types that a call can return."""

from itertools import chain

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from liquidgen.figures.grid import to_images

Images = list[Image.Image] | np.ndarray | Tensor


def to_output(pixels: Tensor, output_type: str) -> Images:
    """Convert pixels (B, 3, H, W) in [-1, 1].

    Args:
        pixels: The pixels.
        output_type: pil; np: (B, H, W, 3) in [0, 1]; pt: (B, 3, H, W) in [0, 1].
    """
    if output_type == "pil":
        return to_images(pixels)
    pixels = pixels / 2 + 0.5
    return pixels if output_type == "pt" else pixels.permute(0, 2, 3, 1).cpu().numpy()


def joined(parts: list) -> Images:
    """Join the images of batches, which are of one type."""
    if isinstance(parts[0], Tensor):
        return torch.cat(parts)
    if isinstance(parts[0], np.ndarray):
        return np.concatenate(parts)
    return list(chain.from_iterable(parts))
