"""Flowers in a vase on a table."""

import numpy as np

from .canvas import WHITE, mix, palette
from .shapes import box, ellipse, polygon, stroke

# wall, table, vase, leaf, then flowers
BOUQUETS = [
    palette("f3d9a4 a8623a 3f6f9f 3f6b3a e4572e f6b93b fff3dc"),
    palette("26305c 7a5a4a d8c8a8 4f8a5a f4a6b8 fff0e0 f2c14e"),
    palette("cfe3dc c98f5a b5533c 3a6b4a d7263d f7f3e3 f49d37"),
    palette("4a2545 c79a6a 88b8b0 5a8f4f f7b538 ffe8d0 e8607a"),
    palette("f6cdb8 8a5a5a 5a4a8a 4a7a4a 8a3fa0 fff0d8 f05d5e"),
    palette("1f4a44 d8b070 f0e6d0 6aa05a ff8552 fff2d0 f2c530"),
]
# where the flowers stand: the first three make the small bouquet
HEADS = np.array([(0.5, 0.2), (0.27, 0.3), (0.73, 0.3), (0.39, 0.44), (0.62, 0.45)])


def bouquet(canvas, rng):
    """Three or five large flowers of two kinds."""
    x, y = canvas.x, canvas.y
    wall, table, vase, leaf, *blooms = BOUQUETS[rng.integers(len(BOUQUETS))]
    canvas.fill(mix(wall, WHITE, np.clip(0.25 - 0.4 * np.hypot(x - 0.35, y - 0.3), -0.2, 1)))
    canvas.mottle(0.015, 7)
    canvas.paint(canvas.inside(0.8 - y), mix(table, table * 0.7, np.clip((y - 0.8) / 0.2, 0, 1)))
    shadow = ellipse(x, y, (0.56, 0.91), (0.2, 0.035))
    canvas.paint(0.35 * canvas.inside(shadow, 0.03), table * 0.3)

    heads = HEADS[: rng.choice([3, 5, 5])]
    heads = heads + rng.uniform(-0.03, 0.03, heads.shape)
    for angle in (-2.5, -2.0, -1.57, -1.1, -0.65):
        middle = np.array((0.5, 0.55)) + 0.16 * np.array((np.cos(angle), np.sin(angle)))
        blade = ellipse(x, y, middle, (0.17, 0.06), angle)
        canvas.paint(canvas.inside(blade), leaf * rng.uniform(0.75, 1.1))
    for head in heads:
        canvas.paint(canvas.inside(stroke(x, y, (0.5, 0.62), head, 0.03)), leaf * 0.7)
    jar(canvas, rng.integers(3), vase)
    *kinds, heart = (blooms[kind] for kind in rng.permutation(3))
    for place, head in enumerate(heads):
        bloom(canvas, rng, head, rng.uniform(0.115, 0.14), kinds[place % 2], heart)


def jar(canvas, kind, color):
    """Paint a vase: round, straight or tapering; lit from the left."""
    canvas = canvas.around((0.5, 0.75), 0.17)
    x, y = canvas.x, canvas.y
    body = (
        ellipse(x, y, (0.5, 0.77), (0.14, 0.13)),
        box(x, y, 0.39, 0.62, 0.61, 0.9),
        polygon(x, y, [(0.36, 0.61), (0.64, 0.61), (0.57, 0.9), (0.43, 0.9)]),
    )[kind]
    neck = box(x, y, 0.42, 0.6, 0.58, 0.68)
    light = mix(mix(color, WHITE, 0.3), color * 0.6, np.clip((x - 0.38) / 0.24, 0, 1))
    canvas.paint(canvas.inside(np.minimum(body, neck)), light)


def bloom(canvas, rng, center, radius, color, heart):
    """Paint a flower head with round petals, darker towards its heart."""
    canvas = canvas.around(center, 1.2 * radius)
    dx, dy = canvas.x - center[0], canvas.y - center[1]
    distance = np.hypot(dx, dy)
    petals = rng.integers(5, 8)
    wave = np.abs(np.cos(petals / 2 * np.arctan2(dy, dx) + rng.uniform(0, np.pi)))
    edge = distance - radius * (0.72 + 0.3 * wave)
    canvas.paint(0.5 * canvas.inside(edge - 0.014), color * 0.35)
    cup = mix(color * 0.72, color, np.clip(1.3 * distance / radius, 0, 1))
    canvas.paint(canvas.inside(edge), cup)
    canvas.paint(canvas.inside(distance - 0.34 * radius), heart)
