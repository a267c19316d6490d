"""Night scenes: a swirling sky over a village, a city with lit windows."""

import numpy as np

from .canvas import mix, palette, ramp
from .shapes import box, disc, ellipse, polygon

# deep sky, mid sky, light sky, star, hill, cypress
STARRY = [
    palette("10205c 2a5cb0 9cc8e8 ffe27a 2f6a5a 0b1a1c"),
    palette("0c2a5a 2f7ab0 b8dcd8 fff0a0 5a6a3a 0a1f1a"),
    palette("1c1650 4a4fb4 b4b8ee ffd86a 5a3f7a 120d26"),
    palette("082a48 1f6f98 8fd0cc ffe890 2a6a50 061a18"),
]
# where the moon and the stars stand when the cypress is on the left, and their radii
STARS = [(0.86, 0.15, 0.075), (0.3, 0.12, 0.05), (0.6, 0.1, 0.04), (0.4, 0.55, 0.045)]
# sky above, sky in the middle, sky at the horizon, moon, far city, near city, window
CITIES = [
    palette("141a4a 4a3f8c e88a8a fff4d8 6a5590 12122e ffd66b"),
    palette("0e2140 2f6a94 f0b878 fff6da 4a7088 0d1a2c ffdf80"),
    palette("2a1040 8a2f6a f58f5a ffe8c0 7a3a6a 1a0a26 ffc85a"),
    palette("0a2a38 2a7a78 d8e0a0 fffbe0 3f7f78 081e24 fff09a"),
    palette("1c1c3c 5a5a94 c8b4d8 ffffff 74709c 16162c ffe28a"),
]


def starry_night(canvas, rng):
    """A swirling sky with glowing stars, a village, and a cypress to one side."""
    x, y = canvas.x, canvas.y
    deep, middle, pale, star, hill, cypress = STARRY[rng.integers(len(STARRY))]
    side = rng.choice([-1, 1])
    u, v = side * (x - 0.5) + 0.5 + 0 * y, y + 0 * x
    for center, reach, turn in (((0.52, 0.33), 0.26, 3.0), ((0.82, 0.52), 0.15, -2.2)):
        u, v = swirl(u, v, center + rng.uniform(-0.04, 0.04, 2), reach, turn)
    flow = v + 0.05 * np.sin(2 * np.pi * (u + rng.random()))
    bands = 0.5 + 0.5 * np.cos(2 * np.pi * flow / 0.17)
    canvas.fill(ramp([mix(deep, middle, 0.15), middle, mix(middle, pale, 0.6)], bands))
    for *place, radius in STARS:
        px, py = place + rng.uniform(-0.03, 0.03, 2)
        glow(canvas, (0.5 + side * (px - 0.5), py), radius, star, pale)
    for base, shade in ((0.72, mix(hill, middle, 0.55)), (0.8, hill)):
        ridge = base + 0.03 * canvas.profile(3)
        slope = np.clip((y - ridge) / 0.25, 0, 1)
        canvas.paint(canvas.inside(ridge - y), mix(shade, 0.45 * shade, slope))
    village(canvas, rng, side, 0.75 * deep, star)
    tree(canvas, 0.5 + side * (rng.uniform(0.1, 0.16) - 0.5), rng.uniform(0.62, 0.75), cypress)


def swirl(u, v, center, reach, turn):
    """Rotate coordinates about a center, most in the middle: straight bands become a swirl."""
    du, dv = u - center[0], v - center[1]
    angle = turn * np.exp(-(du * du + dv * dv) / (reach * reach))
    cos, sin = np.cos(angle), np.sin(angle)
    return center[0] + cos * du - sin * dv, center[1] + sin * du + cos * dv


def glow(canvas, center, radius, color, halo):
    """Paint a star in two rings of light."""
    canvas = canvas.around(center, 2.3 * radius)
    edge = disc(canvas.x, canvas.y, center, radius)
    canvas.paint(0.6 * canvas.inside(edge - 0.9 * radius, 0.03), halo)
    canvas.paint(0.8 * canvas.inside(edge - 0.35 * radius, 0.03), mix(color, halo, 0.35))
    canvas.paint(canvas.inside(edge), color)


def village(canvas, rng, side, wall, window):
    """Paint houses in a row below the hills, one of them a church with a spire."""
    for place, tall in ((0.38, 0.0), (0.52, 0.0), (0.66, 0.16), (0.8, 0.0)):
        cx = 0.5 + side * (place + rng.uniform(-0.02, 0.02) - 0.5)
        top = 0.87 - rng.uniform(0, 0.03)
        half = 0.05
        plot = canvas.around((cx, top), 0.25)
        x, y = plot.x, plot.y
        plot.paint(canvas.inside(box(x, y, cx - half, top, cx + half, 0.97)), wall)
        roof = [(cx - half - 0.01, top), (cx + half + 0.01, top), (cx, top - 0.06 - tall)]
        plot.paint(canvas.inside(polygon(x, y, roof)), 0.4 * wall)
        lit = ellipse(x, y, (cx, top + 0.045), (0.017, 0.022))
        plot.paint(canvas.inside(lit), window)


def tree(canvas, place, height, color):
    """Paint a cypress like a dark flame, from the lower edge."""
    x, y = canvas.x, canvas.y
    below = np.clip((y - 1 + height) / height, 0, 1)
    width = 0.12 * np.sqrt(below) * (1 - 0.35 * below) + 0.012 * np.sin(30 * y) * (below > 0)
    bend = 0.015 * np.sin(9 * y)
    canvas.paint(canvas.inside(np.abs(x - place - bend) - width + 0.01), color)


def skyline(canvas, rng):
    """Towers in two rows under the moon, on a lattice of sixteen columns."""
    x, y = canvas.x, canvas.y
    above, middle, low, moon, far, near, window = CITIES[rng.integers(len(CITIES))]
    canvas.fill(ramp([above, middle, low], y / 0.75))
    canvas.paint(np.clip(0.3 * canvas.noise(7, 3), 0, 0.4) * (1 - y), low)
    center = rng.uniform((0.15, 0.13), (0.85, 0.24))
    radius = rng.uniform(0.075, 0.1)
    edge = disc(x, y, center, radius)
    canvas.paint(0.4 * np.exp(-np.maximum(edge, 0) / 0.1), moon)
    canvas.paint(canvas.inside(edge), moon)

    column = (x * 16).astype(np.int32)
    back = street(rng, 6, 11)[0]
    haze = mix(far, low, np.clip((y - 0.5) * 0.9, 0, 0.4))
    canvas.paint(canvas.inside(1 - back[column] / 16 - y), haze)
    heights, houses = street(rng, 3, 9)
    canvas.paint(canvas.inside(1 - heights[column] / 16 - y), near * (1 + 0.5 * houses[column]))
    lit = rng.random((16, 16)) < rng.uniform(0.4, 0.65)
    row = (y * 16).astype(np.int32)
    across, down = np.abs(x * 16 % 1 - 0.5), np.abs(y * 16 % 1 - 0.5)
    pane = lit[row, column] & (across < 0.25) & (down < 0.25) & (16 - row < heights[column])
    canvas.paint(pane, window)


def street(rng, lowest, highest):
    """Return heights and shades of houses over 16 columns, two or three columns per house."""
    widths = rng.integers(2, 4, 8)
    heights = rng.integers(lowest, highest + 1, 8)
    shades = rng.permutation(8) / 8
    return np.repeat(heights, widths)[:16], np.repeat(shades, widths)[:16]
