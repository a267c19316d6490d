"""Images for training and evaluating the builtin autoencoder; all may be redistributed."""

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from PIL import Image, ImageDraw, ImageFont

from liquidgen.stages.download.procedural import STYLES, draw

SIDE = 64
SHARES = {"photographs": 0.5, "emoji": 0.2, "paintings": 0.3}  # of the crops
SCENES = "astronaut chelsea coffee rocket immunohistochemistry"  # and scikit-learn's two
PLAIN = "hubble_deep_field retina camera coins moon clock brick grass gravel cell"
SCENE_WEIGHT = 4  # probability of a colorful scene, relative to a plain or gray photograph
SCALES = (1.0, 0.71, 0.5, 0.35, 0.25, 0.18)  # of a photograph; none gets smaller than SIDE
WINDOWS = 3  # random windows of a photograph, of which the one with most contrast is used
HOLDOUT_EVERY = 10  # every tenth glyph is held out
GLYPH_SIZE = 109  # the only size of the font
GLYPH_BOX = (4, 0, 132, 128)  # its central square
GLYPH_VARIANTS = 4  # per glyph, on other backgrounds
PAINTINGS = 4000
EVALUATION_SEED = 10**6  # first seed of the paintings that are never trained on


def photographs() -> list[Image.Image]:
    """Return the photographs of scikit-image and scikit-learn, with scenes repeated."""
    from skimage import data
    from sklearn.datasets import load_sample_images

    scenes = [getattr(data, name)() for name in SCENES.split()] + load_sample_images().images
    plain = [getattr(data, name)() for name in PLAIN.split()]
    arrays = SCENE_WEIGHT * scenes + plain
    return [Image.fromarray(array).convert("RGB") for array in arrays]


def pyramid(image: Image.Image) -> Iterator[np.ndarray]:
    """Yield the image at each of SCALES that is large enough for a crop."""
    for scale in SCALES:
        size = tuple(round(side * scale) for side in image.size)
        if min(size) >= SIDE:
            yield np.asarray(image.resize(size, Image.Resampling.LANCZOS, reducing_gap=3))


def glyphs(font: Path) -> list[Image.Image]:
    """Draw every single-codepoint emoji of a bitmap font (CBDT) such as Noto Color Emoji, RGBA."""
    from fontTools.ttLib import TTFont

    face = ImageFont.truetype(str(font), GLYPH_SIZE, layout_engine=ImageFont.Layout.BASIC)
    drawn = []
    for codepoint in sorted(TTFont(font, lazy=True).getBestCmap()):
        glyph = Image.new("RGBA", (136, 128))
        ImageDraw.Draw(glyph).text((0, 0), chr(codepoint), font=face, embedded_color=True)
        if codepoint > 0xFF and glyph.getbbox():
            drawn.append(glyph.crop(GLYPH_BOX))
    return drawn


def on_white(glyph: Image.Image) -> np.ndarray:
    """Put a glyph on white, SIDE px."""
    page = Image.new("RGBA", glyph.size, "white")
    page.alpha_composite(glyph)
    return np.asarray(page.convert("RGB").resize((SIDE, SIDE), Image.Resampling.LANCZOS))


def on_color(glyph: Image.Image, rng: np.random.Generator) -> np.ndarray:
    """Put a glyph, rotated, scaled and shifted, on a random plain color."""
    background = (*rng.integers(0, 256, 3).tolist(), 255)
    side = int(rng.uniform(0.6, 1.6) * SIDE)
    glyph = glyph.rotate(rng.uniform(-30, 30), Image.Resampling.BICUBIC)
    glyph = glyph.resize((side, side), Image.Resampling.LANCZOS)
    page = Image.new("RGBA", (SIDE, SIDE), background)
    corner = rng.integers(min(0, SIDE - side), max(0, SIDE - side) + 1, 2)
    layer = Image.new("RGBA", page.size)
    layer.paste(glyph, tuple(corner.tolist()))
    page.alpha_composite(layer)
    return np.asarray(page.convert("RGB"))


def paintings(count: int, first_seed: int) -> np.ndarray:
    """Draw `count` procedural paintings, spread evenly over the styles: (count, SIDE, SIDE, 3)."""
    styles = list(STYLES)
    numbered = ((styles[i % len(styles)], first_seed + i // len(styles)) for i in range(count))
    return np.stack([np.asarray(draw(style, SIDE, seed)) for style, seed in numbered])


def parquet_images(folder: Path) -> np.ndarray:
    """Read all images of a folder of Parquet files, resized: (N, SIDE, SIDE, 3)."""
    rows = [row for path in sorted(folder.glob("*.parquet")) for row in _column(path)]
    images = (Image.open(io.BytesIO(row["bytes"])).convert("RGB") for row in rows)
    return np.stack([np.asarray(i.resize((SIDE, SIDE), Image.Resampling.LANCZOS)) for i in images])


def _column(path: Path) -> list[dict]:
    return pq.read_table(path, columns=["image"]).column("image").to_pylist()


def holdout(font: Path) -> dict[str, np.ndarray]:
    """Return held-out images of the kinds in the training data."""
    left_out = glyphs(font)[::HOLDOUT_EVERY]
    return {
        "emoji": np.stack([on_white(glyph) for glyph in left_out]),
        "procedural": paintings(200, EVALUATION_SEED),
    }


class TrainingImages:
    """Random crops from images in memory."""

    def __init__(self, font: Path, seed: int):
        self.rng = np.random.default_rng(seed)
        seen = [g for i, g in enumerate(glyphs(font)) if i % HOLDOUT_EVERY]
        turned = [on_color(g, self.rng) for g in seen for _ in range(GLYPH_VARIANTS)]
        self.banks = {
            "photographs": [list(pyramid(photo)) for photo in photographs()],
            "emoji": [on_white(g) for g in seen] * GLYPH_VARIANTS + turned,
            "paintings": paintings(PAINTINGS, first_seed=0),
        }

    def batch(self, count: int) -> np.ndarray:
        """Return `count` augmented crops, uint8 (count, SIDE, SIDE, 3)."""
        kinds = self.rng.choice(list(SHARES), size=count, p=list(SHARES.values()))
        return np.stack([self._crop(kind) for kind in kinds])

    def _crop(self, kind: str) -> np.ndarray:
        rng = self.rng
        bank = self.banks[kind]
        image = bank[rng.integers(len(bank))]
        if kind == "photographs":
            level = image[rng.integers(len(image))]
            image = self._recolored(max((self._window(level) for _ in range(WINDOWS)), key=np.std))
            image = np.rot90(image, rng.integers(2))
        return image[:, ::-1] if rng.random() < 0.5 else image

    def _window(self, image: np.ndarray) -> np.ndarray:
        top, left = (self.rng.integers(side - SIDE + 1) for side in image.shape[:2])
        return image[top : top + SIDE, left : left + SIDE]

    def _recolored(self, crop: np.ndarray) -> np.ndarray:
        """Permute the channels and change their contrast around a random level."""
        rng = self.rng
        gain = rng.uniform(0.7, 1.3) * rng.uniform(0.85, 1.15, 3)
        level = rng.uniform(0, 255)
        shifted = (crop[..., rng.permutation(3)] - level) * gain + level
        return shifted.clip(0, 255).astype(np.uint8)
