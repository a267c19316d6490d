"""Live view of a training in a notebook: the loss curve and the newest sample grid."""

import io
import time
from collections import defaultdict

from PIL.Image import Image

REDRAW_EVERY = 2.0  # seconds
CURVES = ("loss", "validation_loss")


class LiveView:
    """Callback of `train` for notebooks; it updates two displays in place."""

    def __init__(self) -> None:
        from IPython.display import display  # every notebook has IPython

        self._points: dict[str, list[tuple[int, float]]] = defaultdict(list)
        self._curve = display("waiting for the first steps ...", display_id=True)
        self._grid = display("waiting for the first sample grid ...", display_id=True)
        self._drawn_at = 0.0

    def log_metrics(self, metrics: dict[str, float], step: int) -> None:
        """Add a point to the curve; redraw it every few seconds and at each validation."""
        for name in CURVES:
            if name in metrics:
                self._points[name].append((step, metrics[name]))
        if "validation_loss" in metrics or time.monotonic() - self._drawn_at > REDRAW_EVERY:
            self._draw()

    def log_image(self, image: Image, key: str, step: int) -> None:
        """Replace the sample grid."""
        self._grid.update(image)

    def _draw(self) -> None:
        from IPython.display import Image as DisplayImage
        from matplotlib.figure import Figure

        figure = Figure(figsize=(7, 3), layout="constrained")
        axes = figure.subplots()
        for name, points in self._points.items():
            axes.plot(*zip(*points, strict=True), label=name, marker="." if len(points) < 9 else "")
        axes.set_xlabel("step")
        axes.legend()
        png = io.BytesIO()
        figure.savefig(png, format="png")
        self._curve.update(DisplayImage(data=png.getvalue()))
        self._drawn_at = time.monotonic()
