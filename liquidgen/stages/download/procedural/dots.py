"""A landscape in dots, each of a single color."""

import numpy as np

from .canvas import mix, palette, ramp
from .shapes import disc

# sky above, sky low, sun, water, meadow, tree
VIEWS = [
    palette("4a7fd0 f6d8b0 fff6c0 3f8fc0 7fb04a 1f5a3a"),
    palette("5a3f9a f58a6a ffe88a 6a5ab0 c0803f 3a2050"),
    palette("2f9fb0 f0f0c0 fffbe0 2f7fa0 d8c040 2f6a2f"),
    palette("c0609a fbc8a0 fff2c8 8a6fc0 5fa070 2a3f6a"),
    palette("1f2f7a 4f6fc0 ffe890 2a4a9a 2f6a6a 101f3f"),
]


def pointillism(canvas, rng):
    """A tree by the water under a low sun, all in dots."""
    view = scene(rng, *VIEWS[rng.integers(len(VIEWS))])
    canvas.fill(0.42 * view(canvas.x, canvas.y))
    # one dot per cell, odd rows shifted by half; cells outside of the edges have dots that reach in
    cells = 16
    radius = 0.46
    row, column = np.mgrid[-1 : cells + 1, -1 : cells + 1]
    jitter = rng.uniform(-0.12, 0.12, (2, *row.shape))
    places = (np.stack([column + row % 2 / 2, row]) + 0.25 + jitter) / cells
    dot_x, dot_y = places.astype(np.float32)
    hue = 0.06 * rng.standard_normal((3, *row.shape)) + 0.05 * rng.standard_normal(row.shape)
    colors = np.float32(view(dot_x, dot_y) + hue).reshape(3, -1)

    home_x, home_y = (canvas.x * cells).astype(np.int32), (canvas.y * cells).astype(np.int32)
    home = home_y * (cells + 2) + home_x
    dots = np.stack([home + down * (cells + 2) + right for down, right in np.ndindex(3, 3)])
    edges = disc(canvas.x, canvas.y, (dot_x.take(dots), dot_y.take(dots)), radius / cells)
    nearest = edges.argmin(axis=0)[None]
    dot, edge = (np.take_along_axis(field, nearest, axis=0)[0] for field in (dots, edges))
    canvas.paint(canvas.inside(edge), colors[:, dot])


def scene(rng, above, low, light, water, meadow, tree):
    """Return a function from x and y, arrays that broadcast, to the colors of a landscape."""
    sun = rng.uniform((0.25, 0.15), (0.75, 0.32))
    radius = rng.uniform(0.11, 0.14)
    shore = rng.uniform(0.68, 0.76)
    tilt = rng.uniform(-0.1, 0.1)
    side = rng.choice([0.18, 0.82])
    crown = (side + rng.uniform(-0.04, 0.04), rng.uniform(0.4, 0.5))
    size = rng.uniform(0.17, 0.22)

    def view(x, y):
        colors = ramp([above, mix(above, low, 0.5), low], (y + 0 * x) / 0.55)
        glow = np.exp(-np.maximum(disc(x, y, sun, radius), 0) / 0.06)
        colors = mix(colors, light, glow)
        colors = mix(colors, water, 1.0 * (y + 0 * x > 0.55))
        colors = mix(colors, light, 0.6 * (np.abs(x - sun[0]) < 0.1) * (y > 0.55))
        colors = mix(colors, meadow, 1.0 * (y > shore + tilt * (x - 0.5)))
        trunk = (np.abs(x - crown[0]) < 0.035) & (y > crown[1]) & (y < 0.85)
        foliage = disc(x, y, crown, size) < 0
        return mix(colors, tree, 1.0 * (trunk | foliage))

    return view
