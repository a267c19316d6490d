"""The embedded dataset: paintings in ten styles, each drawn from a seed."""

import hashlib

import numpy as np

from .abstract import colour_fields, concentric_circles, marble, neoplastic_grid
from .canvas import Canvas
from .landscapes import hills, seascape
from .night import skyline, starry_night
from .still_life import bouquet, pointillism

STYLES = {
    style.__name__: style
    for style in (
        hills,
        seascape,
        colour_fields,
        neoplastic_grid,
        concentric_circles,
        starry_night,
        pointillism,
        bouquet,
        skyline,
        marble,
    )
}


def draw(style, size, seed):
    """A painting as an RGB image (size x size): the same arguments give the same picture."""
    digest = hashlib.sha256(style.encode()).digest()
    entropy = np.random.SeedSequence([seed, int.from_bytes(digest[:8], "little")])
    rng = np.random.Generator(np.random.PCG64(entropy))
    canvas = Canvas(size, rng)
    STYLES[style](canvas, rng)
    return canvas.image()
