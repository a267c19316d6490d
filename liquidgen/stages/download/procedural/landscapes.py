"""Landscapes by day: hills in the haze, sailing boats at sea."""

import numpy as np

from .canvas import mix, palette, ramp
from .shapes import disc, polygon, stroke

# sky above, sky at the horizon, sun, farthest hill, nearest hill
HILLS = [
    palette("4a4e8f f2b8a0 fff0d0 9a86b8 1f1b3d"),
    palette("e07f4e fbe3a1 fff6d8 d9935f 4a2318"),
    palette("7fbccb f4f1c9 fffbe6 8fbf8b 1d4030"),
    palette("5c94d0 e3eef5 ffffff 8fb0d0 16304f"),
    palette("5a1230 f0603a ffe08a b23a48 26081c"),
    palette("b878a8 fbdcc8 fff3e0 c587a0 3d1f45"),
    palette("2f7f8f f5e0b0 fff2cf 6fa8a0 0f3540"),
    palette("6f9fb8 fbe0b8 fff4d6 d09a55 4a2a1a"),
]
# sky above, sky at the horizon, sun, far water, near water, hull
SEAS = [
    palette("3a7fc0 d6eaf0 fffbe0 6fb0cc 12406e 6e2b22"),
    palette("d8572f fbd27a fff2b8 e08a4a 5a1f2e 2c0f1a"),
    palette("3d3a78 f0a5a0 ffe6c0 a079a8 231f4f 1a1430"),
    palette("2a8c9a f6e6b8 fffae0 5fb8b0 0d4450 7a3020"),
    palette("8a7fb8 f6d8e0 fff8ee a99cc8 3b3570 452048"),
    palette("6f8fa0 e8e4d4 ffffff 8fa8b0 2a4050 3a2a24"),
]
SAIL = palette("fff6e4 e8503a f5c24a")


def sun(canvas, center, radius, color):
    """Paint a disc in a wide glow."""
    edge = disc(canvas.x, canvas.y, center, radius)
    canvas.paint(0.75 * np.exp(-np.maximum(edge, 0) / 0.11), color)
    canvas.paint(canvas.inside(edge), color)


def clouds(canvas, horizon, color):
    """Paint long soft clouds that thin out towards the horizon."""
    cover = np.clip(0.45 * canvas.noise(7, 3) + 0.15, 0, 0.6)
    canvas.paint(cover * np.clip(1 - canvas.y / horizon, 0, 1), color)


def hills(canvas, rng):
    """Ridges, paler with distance, under a hazy sun."""
    y = canvas.y
    above, glow, light, far, near = HILLS[rng.integers(len(HILLS))]
    canvas.fill(ramp([above, mix(above, glow, 0.6), glow], y / 0.55))
    clouds(canvas, 0.5, mix(glow, light, 0.4))
    sun(canvas, rng.uniform((0.2, 0.16), (0.8, 0.32)), rng.uniform(0.07, 0.1), light)
    layers = 5
    for layer in range(layers):
        depth = layer / (layers - 1)
        ridge = 0.45 + 0.45 * depth * (1 - 0.15 * depth)
        ridge = ridge + 0.055 * canvas.profile(4) + 0.01 * canvas.profile(9)
        haze = np.clip((y - ridge) / 0.22, 0, 1) * 0.5 * (1 - 0.7 * depth)
        canvas.paint(canvas.inside(ridge - y), mix(mix(far, near, depth), glow, haze))
    canvas.mottle(0.012)


def seascape(canvas, rng):
    """One sailing boat or two on calm, glittering water."""
    x, y = canvas.x, canvas.y
    above, glow, light, far, near, hull = SEAS[rng.integers(len(SEAS))]
    horizon = 0.5
    canvas.fill(ramp([above, mix(above, glow, 0.5), glow], y / horizon))
    clouds(canvas, horizon, light)
    side = rng.choice([-1, 1])
    place = 0.5 - side * rng.uniform(-0.05, 0.3)
    sun(canvas, (place, rng.uniform(0.17, 0.33)), rng.uniform(0.07, 0.09), light)

    depth = np.clip((y - horizon) / (1 - horizon), 0, 1)
    waves = canvas.noise(18, 4)
    water = ramp([mix(far, glow, 0.3), far, near], depth) + 0.06 * depth * waves
    canvas.paint(canvas.inside(horizon - y), water)
    glitter = np.exp(-(((x - place) / (0.06 + 0.1 * depth)) ** 2)) * np.clip(waves + 0.4, 0, 1)
    canvas.paint(canvas.inside(horizon - y) * glitter * 0.7, light)

    sail = SAIL[rng.choice(3, p=[0.6, 0.2, 0.2])]
    if rng.random() < 0.5:
        boat(canvas, (0.5 - side * rng.uniform(0.22, 0.32), 0.61), 0.25, side, sail, hull)
    boat(
        canvas,
        (0.5 + side * rng.uniform(0.08, 0.2), rng.uniform(0.7, 0.76)),
        rng.uniform(0.38, 0.46),
        side,
        sail,
        hull,
    )


def boat(canvas, foot, height, heading, sail, hull):
    """Paint a sailing boat and its reflection; foot is where the mast meets the hull."""
    canvas = canvas.around(foot, 1.1 * height)

    def shape(corners, up=height):
        points = [(foot[0] + heading * height * px, foot[1] - up * py) for px, py in corners]
        return canvas.inside(polygon(canvas.x, canvas.y, points))

    main = [(-0.04, 0.1), (-0.04, 1.0), (-0.46, 0.1)]
    jib = [(0.03, 0.1), (0.03, 0.85), (0.36, 0.1)]
    planks = [(-0.5, 0.04), (0.48, 0.04), (0.32, -0.13), (-0.38, -0.13)]
    for part in (main, jib):
        canvas.paint(0.35 * shape([(px, -py - 0.16) for px, py in part], 0.6 * height), sail)
    canvas.paint(shape(main), sail)
    canvas.paint(shape(jib), 0.86 * sail)
    canvas.paint(shape(planks), hull)
    top = (foot[0], foot[1] - 1.04 * height)
    canvas.paint(canvas.inside(stroke(canvas.x, canvas.y, foot, top, 0.035 * height)), hull)
