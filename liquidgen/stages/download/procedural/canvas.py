"""A square canvas in unit coordinates: (0, 0) is the top left corner, (1, 1) the bottom right."""

import copy

import numpy as np
from PIL import Image

SUPERSAMPLE = 2


def palette(text):
    """Parse hexadecimal codes separated by blanks into colors (k, 3, 1, 1) in [0, 1]."""
    codes = [list(bytes.fromhex(code)) for code in text.split()]
    return np.array(codes, np.float32)[..., None, None] / 255


WHITE = palette("ffffff")[0]


def mix(color, other, amount):
    """Interpolate from a color to another; amount in [0, 1], a number or an array (h, w)."""
    return color + np.float32(amount) * (other - color)


def ramp(colors, position):
    """Interpolate between colors at a position (h, w) in [0, 1]; returns (3, h, w)."""
    knots = np.linspace(0, 1, len(colors))
    channels = np.stack(colors, axis=1)[:, :, 0, 0]
    looked_up = [np.interp(position, knots, channel) for channel in channels]
    return np.stack(looked_up, dtype=np.float32)


class Canvas:
    """An image of floats with unit coordinates.

    Random numbers are drawn in shapes that do not depend on n, so that a seed gives one composition
    at every size. A color is (3, 1, 1), or (3, n, n) where it varies.

    Attributes:
        n: Side, pixels; supersampled.
        rng: Generator of all random numbers.
        x: Coordinates (1, n) of the columns.
        y: Coordinates (n, 1) of the rows.
        pixels: Colors (3, n, n) in [0, 1].
    """

    def __init__(self, size, rng):
        self.n = size * SUPERSAMPLE
        self.rng = rng
        centers = (np.arange(self.n, dtype=np.float32) + 0.5) / self.n
        self.x = centers[None, :]
        self.y = centers[:, None]
        self.pixels = np.zeros((3, self.n, self.n), np.float32)

    def around(self, center, reach):
        """Return a view of the canvas within reach of a point, where painting costs less."""
        rows, columns = (
            slice(max(int((place - reach) * self.n), 0), max(int((place + reach) * self.n) + 1, 0))
            for place in (center[1], center[0])
        )
        part = copy.copy(self)
        part.x = self.x[:, columns]
        part.y = self.y[rows]
        part.pixels = self.pixels[:, rows, columns]
        return part

    def noise(self, rows, columns=None):
        """Draw smooth noise (n, n) of about unit variance, with one bump per lattice cell."""
        lattice = self.rng.standard_normal((rows, columns or rows), np.float32)
        return self._stretch(lattice, self.n)

    def profile(self, columns):
        """Draw smooth noise (1, n) along x, such as a ridge line."""
        return self._stretch(self.rng.standard_normal((1, columns), np.float32), 1)

    def _stretch(self, lattice, rows):
        resized = Image.fromarray(lattice).resize((self.n, rows), Image.Resampling.BICUBIC)
        return np.asarray(resized)

    def inside(self, distance, softness=0.0):
        """Convert a signed distance, negative inside a shape, to coverage in [0, 1]."""
        return np.clip(0.5 - distance / max(softness, 1 / self.n), 0, 1)

    def fill(self, color):
        """Cover everything with a color."""
        self.pixels[:] = color

    def paint(self, coverage, color):
        """Blend a color into the canvas by coverage, an array in [0, 1]."""
        self.pixels += np.float32(coverage) * (color - self.pixels)

    def mottle(self, strength, cells=12):
        """Add lighter and darker patches, like uneven pigment."""
        self.pixels += strength * self.noise(cells)

    def image(self):
        """Return the painting as an RGB image, without the supersampling."""
        pixels = np.rint(self.pixels.clip(0, 1) * 255).astype(np.uint8)
        return Image.fromarray(np.ascontiguousarray(pixels.transpose(1, 2, 0))).reduce(SUPERSAMPLE)
