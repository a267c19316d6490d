"""A square canvas in unit coordinates: (0, 0) is the top left corner, (1, 1) the bottom right."""

import numpy as np
from PIL import Image

SUPERSAMPLE = 2


def palette(text):
    """Colours (k, 3) in [0, 1] from hexadecimal codes separated by blanks."""
    return np.array([list(bytes.fromhex(code)) for code in text.split()], np.float32) / 255


def mix(colour, other, amount):
    """The colour moved towards the other one; amount in [0, 1], a number or an array (h, w)."""
    return colour + np.asarray(amount, np.float32)[..., None] * (other - colour)


def ramp(colours, position):
    """Colours (k, 3) looked up at a position in [0, 1], linear between neighbours."""
    colours = np.asarray(colours, np.float32)
    place = np.clip(position, 0, 1) * (len(colours) - 1)
    index = np.minimum(place.astype(np.int32), len(colours) - 2)
    return mix(colours[index], colours[index + 1], place - index)


class Canvas:
    """Pixels (n, n, 3) in [0, 1] under unit coordinates x (1, n) and y (n, 1).

    Random numbers are drawn in shapes that do not depend on n, so that a seed means one
    composition at every size.
    """

    def __init__(self, size, rng):
        self.n = size * SUPERSAMPLE
        self.rng = rng
        centres = (np.arange(self.n, dtype=np.float32) + 0.5) / self.n
        self.x, self.y = centres[None, :], centres[:, None]
        self.pixels = np.zeros((self.n, self.n, 3), np.float32)

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

    def fill(self, colour):
        """Cover everything with a colour (3,) or with colours that broadcast to (n, n, 3)."""
        self.pixels[:] = colour

    def paint(self, coverage, colour):
        """Lay a colour (3,) or colours (n, n, 3) over the canvas where coverage (n, n) is."""
        self.pixels += np.asarray(coverage, np.float32)[..., None] * (colour - self.pixels)

    def mottle(self, strength, rows=12, columns=None):
        """Uneven pigment: lighter and darker patches."""
        self.pixels += strength * self.noise(rows, columns)[..., None]

    def image(self):
        """The finished picture at the size asked for, an RGB image."""
        pixels = np.rint(np.clip(self.pixels, 0, 1) * 255).astype(np.uint8)
        return Image.fromarray(pixels).reduce(SUPERSAMPLE)
