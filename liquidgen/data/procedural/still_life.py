"""Close by: a bouquet on a table, and a view in dots."""

import numpy as np

from .canvas import WHITE, mix, palette, ramp
from .shapes import box, disc, ellipse, polygon, stroke

# wall, table, vase, leaf, then flowers
BOUQUETS = [
    palette("f3d9a4 a8623a 3f6f9f 3f6b3a e4572e f6b93b fff3dc"),
    palette("26305c 7a5a4a d8c8a8 4f8a5a f4a6b8 fff0e0 f2c14e"),
    palette("cfe3dc c98f5a b5533c 3a6b4a d7263d f7f3e3 f49d37"),
    palette("4a2545 c79a6a 88b8b0 5a8f4f f7b538 ffe8d0 e8607a"),
    palette("f6cdb8 8a5a5a 5a4a8a 4a7a4a 8a3fa0 fff0d8 f05d5e"),
    palette("1f4a44 d8b070 f0e6d0 6aa05a ff8552 fff2d0 f2c530"),
]
# sky above, sky low, sun, water, meadow, tree
VIEWS = [
    palette("4a7fd0 f6d8b0 fff6c0 3f8fc0 7fb04a 1f5a3a"),
    palette("5a3f9a f58a6a ffe88a 6a5ab0 c0803f 3a2050"),
    palette("2f9fb0 f0f0c0 fffbe0 2f7fa0 d8c040 2f6a2f"),
    palette("c0609a fbc8a0 fff2c8 8a6fc0 5fa070 2a3f6a"),
    palette("1f2f7a 4f6fc0 ffe890 2a4a9a 2f6a6a 101f3f"),
]


def bouquet(canvas, rng):
    x, y = canvas.x, canvas.y
    wall, table, vase, leaf, *blooms = BOUQUETS[rng.integers(len(BOUQUETS))]
    canvas.fill(mix(wall, WHITE, np.clip(0.25 - 0.4 * np.hypot(x - 0.35, y - 0.3), -0.2, 1)))
    canvas.mottle(0.015, 7)
    canvas.paint(canvas.inside(0.8 - y), mix(table, table * 0.7, np.clip((y - 0.8) / 0.2, 0, 1)))
    canvas.paint(0.35 * canvas.inside(ellipse(x, y, (0.56, 0.91), (0.2, 0.035)), 0.03), table * 0.3)

    heads = np.array([(0.5, 0.2), (0.27, 0.3), (0.73, 0.3), (0.39, 0.44), (0.62, 0.45)])
    heads = heads[: rng.choice([3, 5])]
    heads = heads + rng.uniform(-0.03, 0.03, heads.shape)
    for angle in (-2.5, -2.0, -1.57, -1.1, -0.65):
        tip = np.array((0.5, 0.55)) + 0.16 * np.array((np.cos(angle), np.sin(angle)))
        canvas.paint(
            canvas.inside(ellipse(x, y, tip, (0.17, 0.06), angle)), leaf * rng.uniform(0.75, 1.1)
        )
    for head in heads:
        canvas.paint(canvas.inside(stroke(x, y, (0.5, 0.62), head, 0.03)), leaf * 0.7)
    jar(canvas, rng.integers(3), vase)
    favourite = rng.permutation(3)
    for place, head in enumerate(heads):
        bloom(
            canvas,
            rng,
            head,
            rng.uniform(0.115, 0.14),
            blooms[favourite[place % 2]],
            blooms[favourite[2]],
        )


def jar(canvas, kind, colour):
    """A vase: round, straight or tapering; lit from the left."""
    canvas = canvas.around((0.5, 0.75), 0.17)
    x, y = canvas.x, canvas.y
    body = (
        ellipse(x, y, (0.5, 0.77), (0.14, 0.13)),
        box(x, y, 0.39, 0.62, 0.61, 0.9),
        polygon(x, y, [(0.36, 0.61), (0.64, 0.61), (0.57, 0.9), (0.43, 0.9)]),
    )[kind]
    neck = box(x, y, 0.42, 0.6, 0.58, 0.68)
    light = mix(mix(colour, WHITE, 0.3), colour * 0.6, np.clip((x - 0.38) / 0.24, 0, 1))
    canvas.paint(canvas.inside(np.minimum(body, neck)), light)


def bloom(canvas, rng, centre, radius, colour, heart):
    """A flower head with round petals, darker towards its heart."""
    canvas = canvas.around(centre, 1.2 * radius)
    dx, dy = canvas.x - centre[0], canvas.y - centre[1]
    distance = np.hypot(dx, dy)
    petals = rng.integers(5, 8)
    wave = np.abs(np.cos(petals / 2 * np.arctan2(dy, dx) + rng.uniform(0, np.pi)))
    edge = distance - radius * (0.72 + 0.3 * wave)
    canvas.paint(0.5 * canvas.inside(edge - 0.014), colour * 0.35)
    canvas.paint(
        canvas.inside(edge), mix(colour * 0.72, colour, np.clip(distance / radius * 1.3, 0, 1))
    )
    canvas.paint(canvas.inside(distance - 0.34 * radius), heart)


def pointillism(canvas, rng):
    view = scene(rng, *VIEWS[rng.integers(len(VIEWS))])
    canvas.fill(0.6 * view(canvas.x, canvas.y))
    # one dot a cell, and a rim of cells outside for the dots that reach in
    cells, radius = 16, 0.47
    row, column = np.mgrid[-1 : cells + 1, -1 : cells + 1]
    dot_x, dot_y = (
        np.stack([column, row]) + 0.5 + rng.uniform(-0.12, 0.12, (2, *row.shape))
    ) / cells
    hue = 0.05 * rng.standard_normal((3, *row.shape)) + 0.05 * rng.standard_normal(row.shape)
    colours = view(dot_x, dot_y) + hue
    home_x, home_y = (canvas.x * cells).astype(np.int32), (canvas.y * cells).astype(np.int32)
    for down, right in np.ndindex(3, 3):
        dot = home_y + down, home_x + right
        edge = disc(canvas.x, canvas.y, (dot_x[dot], dot_y[dot]), radius / cells)
        canvas.paint(canvas.inside(edge), colours[:, *dot])


def scene(rng, above, low, light, water, meadow, tree):
    """A function of x and y (any equal or broadcasting shapes) that gives the colours of a view."""
    sun, radius = rng.uniform((0.25, 0.15), (0.75, 0.32)), rng.uniform(0.1, 0.13)
    shore, tilt = rng.uniform(0.68, 0.76), rng.uniform(-0.1, 0.1)
    side = rng.choice([0.18, 0.82])
    crown = (side + rng.uniform(-0.04, 0.04), rng.uniform(0.4, 0.5))
    size = rng.uniform(0.17, 0.22)

    def view(x, y):
        colours = ramp([above, mix(above, low, 0.5), low], (y + 0 * x) / 0.55)
        glow = np.exp(-np.maximum(disc(x, y, sun, radius), 0) / 0.08)
        colours = mix(colours, light, glow)
        colours = mix(colours, water, 1.0 * (y + 0 * x > 0.55))
        colours = mix(colours, light, 0.6 * (np.abs(x - sun[0]) < 0.1) * (y > 0.55))
        colours = mix(colours, meadow, 1.0 * (y > shore + tilt * (x - 0.5)))
        trunk = (np.abs(x - crown[0]) < 0.035) & (y > crown[1]) & (y < 0.85)
        foliage = disc(x, y, crown, size) < 0
        return mix(colours, tree, 1.0 * (trunk | foliage))

    return view
