"""Names of classes as figures show them: in a font that has their letters, and not too wide."""

import unicodedata
from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from PIL import ImageFont

if TYPE_CHECKING:
    from matplotlib.ft2font import FT2Font

FONT_SIZE = 14  # px
MAX_WIDTH = 280  # px; longer names are cut
MAX_LETTERS = 200  # that are looked at: a name may be as long as its author likes
JOINERS = "\u200c\u200d"  # invisible, but they shape the letters beside them
REGULAR = ("Regular", "Book", "Roman")  # styles


class DisplayName(NamedTuple):
    """A name as it is drawn: its text, and the path of the font file."""

    text: str
    font: str


def display_names(names: Sequence[str]) -> list[DisplayName]:
    """Return names that can be drawn: one line each, without boxes for letters no font has.

    The font is DejaVu Sans, which matplotlib ships, or for a name with other letters the font of
    this machine that has most of them. What that font lacks is left out, and the number of the
    class stands before the rest.

    Args:
        names: Names of the classes 0, 1, ...
    """
    cleaned = [_one_line(name) for name in names]
    letters = {"#", ".", *"0123456789", *"".join(cleaned)}
    fonts = _fonts(letters)
    result = []
    for number, (name, text) in enumerate(zip(names, cleaned, strict=True)):
        font, lacking = min(  # the first of equals
            ((path, [c for c in text if c not in owned]) for path, owned in fonts.items()),
            key=lambda candidate: len(candidate[1]),
        )
        if lacking or (name and not text):
            rest = "".join(c for c in text if c not in lacking).strip(" " + JOINERS)
            text = f"#{number} {rest}".rstrip()
        result.append(DisplayName(_cut(text, font), font))
    return result


@lru_cache(maxsize=64)
def pil_font(path: str) -> ImageFont.FreeTypeFont:
    """Open a font for drawing with PIL, in the size of names."""
    return ImageFont.truetype(path, FONT_SIZE)


def default_font() -> str:
    """Return the path of DejaVu Sans in matplotlib."""
    import matplotlib

    return str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf")


def _one_line(name: str) -> str:
    """Replace what ends or moves a line (controls, directions of writing) and compose accents."""
    composed = unicodedata.normalize("NFC", name[:MAX_LETTERS])
    spaced = (" " if unicodedata.category(c) in ("Cc", "Zl", "Zp") else c for c in composed)
    shown = (c for c in spaced if c in JOINERS or unicodedata.category(c) != "Cf")
    return " ".join("".join(shown).split())


def _fonts(letters: set[str]) -> dict[str, set[str]]:
    """Return the letters of each font by its path, the default font first."""
    from matplotlib.ft2font import FT2Font

    path = default_font()
    fonts = {path: _owned(FT2Font(path), letters)}
    if letters > fonts[path]:
        fonts |= _system_fonts(letters)
    return fonts


def _system_fonts(letters: set[str]) -> dict[str, set[str]]:
    """Return the letters of the fonts of this machine by their paths, regular styles first."""
    from matplotlib.font_manager import findSystemFonts
    from matplotlib.ft2font import FaceFlags, FT2Font

    found = {}
    for path in sorted(findSystemFonts()):
        try:
            font = FT2Font(path)
            # color fonts are pictures of one size, and the last resort has a box for every letter
            usable = (
                FaceFlags.SCALABLE in font.face_flags and FaceFlags.COLOR not in font.face_flags
            )
            if usable and "LastResort" not in font.family_name.replace(" ", ""):
                pil_font(path)
                found[path] = (font.style_name not in REGULAR, _owned(font, letters))
        except (OSError, RuntimeError, UnicodeError):  # not readable, or not a font
            continue
    ordered = sorted(found, key=lambda path: (found[path][0], path))
    return {path: found[path][1] for path in ordered}


def _owned(font: "FT2Font", letters: Iterable[str]) -> set[str]:
    return {letter for letter in letters if font.get_char_index(ord(letter))}


def _cut(text: str, path: str) -> str:
    """Shorten a text to MAX_WIDTH."""
    font = pil_font(path)
    if font.getlength(text) <= MAX_WIDTH and len(text) < MAX_LETTERS:
        return text
    while text and font.getlength(text + "...") > MAX_WIDTH:
        text = text[:-1]
    return text.rstrip() + "..."
