"""Signed distances to shapes in unit coordinates: negative inside, zero on the edge."""

import numpy as np


def disc(x, y, center, radius):
    return np.hypot(x - center[0], y - center[1]) - radius


def ellipse(x, y, center, radii, angle=0.0):
    """Signed distance, exact on the edge and elsewhere good enough for painting."""
    cos, sin = np.cos(angle), np.sin(angle)
    dx, dy = x - center[0], y - center[1]
    along, across = (cos * dx + sin * dy) / radii[0], (cos * dy - sin * dx) / radii[1]
    return (np.hypot(along, across) - 1) * min(radii)


def box(x, y, left, top, right, bottom):
    return np.maximum(np.maximum(left - x, x - right), np.maximum(top - y, y - bottom))


def stroke(x, y, start, end, width):
    """Signed distance to a straight line with round ends."""
    (x0, y0), (x1, y1) = start, end
    dx, dy = x1 - x0, y1 - y0
    along = np.clip(((x - x0) * dx + (y - y0) * dy) / (dx * dx + dy * dy), 0, 1)
    return np.hypot(x - x0 - along * dx, y - y0 - along * dy) - width / 2


def polygon(x, y, corners):
    """Signed distance to a convex polygon with corners in either direction."""
    corners = np.asarray(corners, np.float32)
    edges = np.roll(corners, -1, axis=0) - corners
    turn = edges[0, 0] * edges[1, 1] - edges[0, 1] * edges[1, 0]
    sides = [
        np.sign(turn) * ((x - px) * dy - (y - py) * dx) / np.hypot(dx, dy)
        for (px, py), (dx, dy) in zip(corners, edges, strict=True)
    ]
    return np.maximum.reduce(sides)
