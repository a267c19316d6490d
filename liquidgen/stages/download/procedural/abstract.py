"""Abstract paintings: fields, grids, circles, marble."""

import numpy as np

from .canvas import WHITE, mix, palette
from .shapes import box, disc

# ground, then fields
FIELDS = [
    palette("8c1c13 f2a541 e8572a 4a0d12"),
    palette("1d2a5c 3f6fc0 0d1533 88b0e0"),
    palette("e9c46a e76f51 f4e3b2 b5382a"),
    palette("2f4a3c 84a98c 16281f d9e2b8"),
    palette("5a2a55 c77ba0 2c1230 f0bcc0"),
    palette("d8cfc0 3c4a5a 8a9aa5 f4efe4"),
    palette("20222a 7a1f2b c9b8a0 101014"),
    palette("e8a0a0 fbe4d0 c04848 f6c667"),
]
# paper, gray, black, then the strong colors
NEOPLASTIC = palette("f5f1e6 dcd9d0 17171a d4231c 1d3f9f f6c915")
# three light and three dark colors that go together
CIRCLES = [
    palette("f7e8c8 f2b134 8ecae6 1d3557 c1272d 2f5d50"),
    palette("fdf0d5 f4a6a0 ffd166 3d1e6d 9b2242 14505c"),
    palette("eaf4e0 a8d08d f9d65c 14452f 1f4e8c 8a2b2b"),
    palette("fbe9ef b8b8f0 f7b267 2a1a5e 6a1b6a 10403b"),
    palette("fff3d6 f08a4b 9fd8cb 22223b 7a1e2c 264e86"),
]
# bands in the order in which they follow one another
MARBLES = [
    palette("f4ead8 c9502e 2b2d42 e8b04a"),
    palette("eef4f2 4fa3a5 12355b a8d5d0"),
    palette("fbeee6 d77a9b 5a1f50 f3bfb3"),
    palette("f3f1dc 6a994e 1b4332 d9c65a"),
    palette("f6f3ff 8a7fd0 241a5e c7b8ea"),
    palette("fff4d0 f08a24 7a1012 f6c453"),
]


def colour_fields(canvas, rng):
    """Two or three soft-edged fields of color hovering on a ground."""
    ground, *fields = FIELDS[rng.integers(len(FIELDS))]
    canvas.fill(ground)
    canvas.mottle(0.02, 6)
    order = rng.permutation(3)
    blocks = rng.integers(2, 4)
    shares = rng.uniform(0.6, 1.6, 3)[:blocks]
    gap = 0.045
    margin = rng.uniform(0.08, 0.12)
    heights = (1 - 2 * margin - gap * (blocks - 1)) * shares / shares.sum()
    top = margin
    for color, height in zip(order, heights, strict=False):
        edge = box(canvas.x, canvas.y, margin, top, 1 - margin, top + height)
        wobble = 0.009 * canvas.noise(7)
        pigment = fields[color] + 0.025 * canvas.noise(5)
        canvas.paint(0.95 * canvas.inside(edge + wobble, 0.06), pigment)
        top += height + gap


def neoplastic_grid(canvas, rng):
    """Black lines between white rectangles, a few of them in primary colors."""
    paper, gray, black, *strong = NEOPLASTIC
    canvas.fill(black)
    rooms = divide(rng, rng.integers(5, 9))
    colors = [*rng.permutation(strong), paper, paper, rng.choice([gray, black, paper])]
    half = rng.choice([0.016, 0.022])
    order = rng.permutation(len(rooms))
    for place, room in enumerate(order):
        left, top, right, bottom = (
            # a rectangle at the edge goes on beyond it: the painting has no frame
            edge / 8 + (inward * half if 0 < edge < 8 else -inward)
            for edge, inward in zip(rooms[room], (1, 1, -1, -1), strict=True)
        )
        color = colors[place] if place < len(colors) else paper
        canvas.paint(canvas.inside(box(canvas.x, canvas.y, left, top, right, bottom)), color)


def divide(rng, count):
    """Split an 8 x 8 lattice into rectangles (left, top, right, bottom), the largest each time."""
    rooms = [(0, 0, 8, 8)]
    while len(rooms) < count:
        rooms.sort(key=lambda room: (room[2] - room[0]) * (room[3] - room[1]))
        left, top, right, bottom = rooms.pop()
        width, height = right - left, bottom - top
        if width > height or (width == height and rng.random() < 0.5):
            cut = left + divide_side(rng, width)
            rooms += [(left, top, cut, bottom), (cut, top, right, bottom)]
        else:
            cut = top + divide_side(rng, height)
            rooms += [(left, top, right, cut), (left, cut, right, bottom)]
    return rooms


def divide_side(rng, length):
    """Choose where to cut a side: not next to its ends if it is long enough."""
    margin = 1 if length < 4 else 2
    return rng.integers(margin, length - margin + 1)


def concentric_circles(canvas, rng):
    """One large set of rings or four small ones, alternately light and dark."""
    colors = CIRCLES[rng.integers(len(CIRCLES))]
    side = rng.integers(1, 3)
    rings = 5 if side == 1 else 3
    wobble = 0.006 * canvas.noise(6)
    for cell in range(side * side):
        row, column = divmod(cell, side)
        left, top = column / side, row / side
        lights, darks = rng.permutation(colors[:3]), rng.permutation(colors[3:])
        tones = [lights, darks] if (row + column + rng.integers(2)) % 2 else [darks, lights]
        frame = box(canvas.x, canvas.y, left, top, left + 1 / side, top + 1 / side)
        canvas.paint(canvas.inside(frame), tones[0][0])
        center = (left + 0.5 / side, top + 0.5 / side)
        for ring in range(rings):
            radius = 0.46 / side * (1 - ring / rings)
            edge = disc(canvas.x, canvas.y, center, radius) + wobble
            canvas.paint(canvas.inside(edge), tones[(ring + 1) % 2][(ring + 1) // 2 % 3])
    canvas.mottle(0.012)


def marble(canvas, rng):
    """Marbled paper: broad bands that flow side by side."""
    colors = MARBLES[rng.integers(len(MARBLES))]
    angle = rng.choice([-1, 1]) * rng.uniform(0.5, 0.9)
    along = np.cos(angle) * canvas.x + np.sin(angle) * canvas.y
    across = np.cos(angle) * canvas.y - np.sin(angle) * canvas.x
    comb = 0.07 * np.sin(2 * np.pi * (1.5 * across + rng.random()))
    flow = 1.45 * along + comb + 0.2 * canvas.noise(3) + rng.random()
    place = flow * 4 % 4
    index = place.astype(np.int32)
    # flat bands with a short soft passage from each to the next
    blend = np.clip((place - index - 0.5) / 0.22 + 0.5, 0, 1)
    before, after = (np.moveaxis(colors[step % 4, :, 0, 0], -1, 0) for step in (index, index + 1))
    canvas.fill(mix(before, after, blend))
    line = np.exp(-(((place - index - 0.5) / 0.09) ** 2))
    canvas.paint(0.5 * line, mix(colors[0], WHITE, 0.5))
