"""The procedural dataset: paintings in ten styles, each drawn from a seed."""

import hashlib
from collections.abc import Callable

import numpy as np
from PIL import Image

from liquidgen.utils.errors import UserError

from .abstract import colour_fields, concentric_circles, marble, neoplastic_grid
from .canvas import Canvas
from .dots import pointillism
from .landscapes import hills, seascape
from .night import skyline, starry_night
from .still_life import bouquet

STYLES: dict[str, Callable[[Canvas, np.random.Generator], None]] = {
    style.__name__: style
    for style in (
        hills,
        seascape,
        colour_fields,  # British spelling kept: the name of a style seeds its images
        neoplastic_grid,
        concentric_circles,
        starry_night,
        pointillism,
        bouquet,
        skyline,
        marble,
    )
}


def draw(style: str, size: int, seed: int) -> Image.Image:
    """Draw a painting; the same arguments give the same pixels in any process.

    Args:
        style: Name of a style in STYLES.
        size: Side of the image, pixels.
        seed: Seed of the composition, which is the same at every size.

    Returns:
        An RGB image.

    Raises:
        UserError: There is no such style.
    """
    if style not in STYLES:
        raise UserError(f"style {style!r}: no such painting; choose one of {', '.join(STYLES)}")
    # hash() of a string differs between processes, a digest does not
    digest = int.from_bytes(hashlib.sha256(style.encode()).digest()[:8], "little")
    rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, digest])))
    canvas = Canvas(size, rng)
    STYLES[style](canvas, rng)
    return canvas.image()
