"""Pictures and charts as they are put into the page itself."""

import base64
import io
import math
import re

from PIL import Image

from liquidgen.report.facts import Curve

QUALITY = 82  # of WebP
LABEL = "#010203"  # stands for the color of the text around a chart, which is dark or light
COLORS = ("#3b82f6", "#f97316", "#10b981", "#a855f7", "#eab308", "#ec4899", "#14b8a6", "#94a3b8")
SIZE = (5.2, 3.1)  # inches of 96 px, as the page shows a chart


def webp(png: bytes, max_pixels: int) -> tuple[str, int, int]:
    """Return a picture as a data URI, with its width and height; larger ones are scaled down."""
    with Image.open(io.BytesIO(png)) as opened:
        image = opened.convert("RGB")
    scale = math.sqrt(max_pixels / (image.width * image.height))
    if scale < 1:
        size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
        image = image.resize(size, Image.Resampling.LANCZOS)
    stream = io.BytesIO()
    image.save(stream, "webp", quality=QUALITY, method=4)
    data = base64.b64encode(stream.getvalue()).decode()
    return f"data:image/webp;base64,{data}", image.width, image.height


def chart(curves: dict[str, Curve], faint: frozenset[str] = frozenset()) -> str:
    """Draw curves over the epochs as an SVG, in the color of the text around it.

    Args:
        curves: Points (epoch, value) by name.
        faint: Names of curves that are only there to compare with.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    style = {
        "svg.fonttype": "none",
        "svg.hashsalt": "liquidgen",
        "font.family": "sans-serif",
        "font.size": 9,
        **dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor"), LABEL),
        **dict.fromkeys(("xtick.color", "ytick.color", "grid.color"), LABEL),
    }
    with rc_context(style):
        figure = Figure(figsize=SIZE, layout="constrained")
        axes = figure.subplots()
        for number, (name, points) in enumerate(curves.items()):
            epochs, values = zip(*sorted(points), strict=True)
            axes.plot(
                epochs,
                values,
                marker="." if len(points) < 30 else "none",
                linestyle="--" if name in faint else "-",
                color=COLORS[number % len(COLORS)],
                linewidth=1.1 if name in faint else 1.8,
                alpha=0.75 if name in faint else 1,
                label=_plain(name),
            )
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8))
        axes.grid(alpha=0.15)
        axes.spines[["top", "right"]].set_visible(False)
        axes.set_xlabel("epoch")
        _focus(axes, curves)
        legend = axes.legend(frameon=False, fontsize=8.5)
        for text in legend.get_texts():
            text.set_parse_math(False)  # a name may hold two dollar signs
        stream = io.StringIO()
        figure.savefig(stream, format="svg", transparent=True, metadata={"Date": None})
    svg = stream.getvalue()
    svg = svg[svg.index("<svg") :].replace(LABEL, "currentColor")
    return re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)


def _plain(name: str) -> str:
    # matplotlib leaves labels with an underscore at the start out of the legend
    return name.lstrip("_") or "?"


def _focus(axes: object, curves: dict[str, Curve]) -> None:
    """Cut off the first values of a curve that would flatten all others."""
    values = sorted(value for points in curves.values() for _, value in points)
    low, high = values[0], values[int(0.97 * (len(values) - 1))]
    if high > low and values[-1] - low > 3 * (high - low):
        axes.set_ylim(low - 0.05 * (high - low), high + 0.25 * (high - low))  # type: ignore[attr-defined]
