"""A square canvas in unit coordinates: (0, 0) is the top left corner, (1, 1) the bottom right."""

import copy

import numpy as np
from PIL import Image

SUPERSAMPLE = 2


def palette(text):
    """Colors (k, 3, 1, 1) in [0, 1] from hexadecimal codes separated by blanks."""
    codes = [list(bytes.fromhex(code)) for code in text.split()]
    return np.array(codes, np.float32)[..., None, None] / 255


WHITE = palette("ffffff")[0]


def mix(color, other, amount):
    """The color moved towards the other one; amount in [0, 1], a number or an array (h, w)."""
    return color + np.float32(amount) * (other - color)


def ramp(colors, position):
    """Colors looked up at a position (h, w) in [0, 1], linear between neighbors: (3, h, w)."""
    knots = np.linspace(0, 1, len(colors))
    channels = np.stack(colors, axis=1)[:, :, 0, 0]
    looked_up = [np.interp(position, knots, channel) for channel in channels]
    return np.stack(looked_up, dtype=np.float32)


class Canvas:
    """Pixels (3, n, n) in [0, 1] under unit coordinates x (1, n) and y (n, 1).

    Random numbers are drawn in shapes that do not depend on n, so that a seed means one
    composition at every size. A color is (3, 1, 1), or (3, n, n) where it varies.
    """

    def __init__(self, size, rng):
        self.n = size * SUPERSAMPLE
        self.rng = rng
        centres = (np.arange(self.n, dtype=np.float32) + 0.5) / self.n
        self.x, self.y = centres[None, :], centres[:, None]
        self.pixels = np.zeros((3, self.n, self.n), np.float32)

    def around(self, centre, reach):
        """The part of this canvas within reach of a place: painting there costs less."""
        rows, columns = (
            slice(max(int((place - reach) * self.n), 0), max(int((place + reach) * self.n) + 1, 0))
            for place in (centre[1], centre[0])
        )
        part = copy.copy(self)
        part.x, part.y = self.x[:, columns], self.y[rows]
        part.pixels = self.pixels[:, rows, columns]
        return part

    def noise(self, rows, columns=None):
        """Smooth noise (n, n) of about unit variance with one bump a lattice cell."""
        lattice = self.rng.standard_normal((rows, columns or rows), np.float32)
        return self._stretch(lattice, self.n)

    def profile(self, columns):
        """Smooth noise (1, n) along x: a ridge line."""
        return self._stretch(self.rng.standard_normal((1, columns), np.float32), 1)

    def _stretch(self, lattice, rows):
        resized = Image.fromarray(lattice).resize((self.n, rows), Image.Resampling.BICUBIC)
        return np.asarray(resized)

    def inside(self, distance, softness=0.0):
        """Coverage in [0, 1] of the shape whose signed distance is negative inside."""
        return np.clip(0.5 - distance / max(softness, 1 / self.n), 0, 1)

    def fill(self, color):
        """Cover everything with a color."""
        self.pixels[:] = color

    def paint(self, coverage, color):
        """Lay a color over the canvas where coverage, an array in [0, 1], is."""
        self.pixels += np.float32(coverage) * (color - self.pixels)

    def mottle(self, strength, cells=12):
        """Uneven pigment: lighter and darker patches."""
        self.pixels += strength * self.noise(cells)

    def image(self):
        """The finished picture at the size asked for, an RGB image."""
        pixels = np.rint(self.pixels.clip(0, 1) * 255).astype(np.uint8)
        return Image.fromarray(np.ascontiguousarray(pixels.transpose(1, 2, 0))).reduce(SUPERSAMPLE)
