"""Names of classes in figures: every letter is drawn, in one line, and the width is bounded."""

from pathlib import Path

import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from fontTools.ttLib import TTFont
from matplotlib import font_manager

from liquidgen.figures.names import MAX_WIDTH, default_font, display_names, pil_font

pytestmark = pytest.mark.fault("names of classes in any script")

ODD_NAMES = (
    "café naïve",
    "cafe\u0301",  # as macOS writes it
    "Кошки",
    "گربه\u200cها",  # noqa: RUF001, it is Persian
    "שלום",
    "Ω≈ç√ ½ €",
    "$x^{$",
    "<b>&`|\\",
    "猫と犬",
    "한국어",
    "ภาษาไทย",
    "🦄 unicorn",
    "👨\u200d👩\u200d👧",
    "tab\tnew\nline\x1b[31m\x00",
    "\u202egnp.exe",
    "\ufffe\U000f0000",
    "名" * 5000,
    "a" * 5000,
)


@pytest.fixture
def fonts(monkeypatch):
    """The fonts of this machine: none, until a test adds some."""
    paths: list[str] = []
    monkeypatch.setattr(font_manager, "findSystemFonts", lambda: paths)
    return paths


def write_font(path: Path, letters: str) -> str:
    """Write a font in which each letter is a square."""
    pen = TTGlyphPen(None)
    for i, corner in enumerate([(0, 0), (0, 700), (700, 700), (700, 0)]):
        (pen.lineTo if i else pen.moveTo)(corner)
    pen.closePath()
    square = pen.glyph()
    names = {ord(letter): f"u{ord(letter):x}" for letter in letters}
    builder = FontBuilder(1000)
    builder.setupGlyphOrder([".notdef", *names.values()])
    builder.setupCharacterMap(names)
    builder.setupGlyf(dict.fromkeys([".notdef", *names.values()], square))
    builder.setupHorizontalMetrics(dict.fromkeys([".notdef", *names.values()], (800, 0)))
    builder.setupHorizontalHeader(ascent=800, descent=-200)
    builder.setupNameTable({"familyName": path.stem, "styleName": "Regular"})
    builder.setupOS2()
    builder.setupPost()
    builder.save(path)
    return str(path)


def drawable(text: str, font: str) -> bool:
    return {ord(letter) for letter in text} <= TTFont(font, fontNumber=0).getBestCmap().keys()


@pytest.mark.parametrize("name", ODD_NAMES, ids=ascii)
def test_no_letter_is_a_box(fonts, name: str):
    (shown,) = display_names([name])
    assert shown.text
    assert drawable(shown.text, shown.font)
    assert pil_font(shown.font).getlength(shown.text) <= MAX_WIDTH


@pytest.mark.parametrize("name", ["سگ\u200c", "Кошки", "$x$", "Ω≈ç√", "שלום", ""], ids=ascii)
def test_names_in_the_default_font_stay_as_they_are(fonts, name: str):
    assert display_names([name]) == [(name, default_font())]


def test_accents_are_composed(fonts):
    assert display_names(["cafe\u0301"])[0].text == "café"


def test_names_that_no_font_has_keep_their_number(fonts):
    names = ["cat", "🦄", "🦩", "🦄 unicorn", "\u200b \x00"]
    assert [shown.text for shown in display_names(names)] == ["cat", "#1", "#2", "#3 unicorn", "#4"]


def test_fonts_of_the_machine_serve_other_letters(fonts, tmp_path: Path):
    fonts += [
        write_font(tmp_path / "Few.ttf", "猫 "),
        write_font(tmp_path / "Many.ttf", "猫と犬 #0123456789."),
    ]
    cat, both, latin, mixed = display_names(["猫", "猫と犬", "cat", "犬 🦄"])
    assert (both.text, both.font) == ("猫と犬", fonts[1])
    assert (cat.text, latin) == ("猫", ("cat", default_font()))
    assert (mixed.text, mixed.font) == ("#3 犬", fonts[1])


def test_unreadable_fonts_are_passed_over(fonts, tmp_path: Path):
    (tmp_path / "damaged.ttf").write_bytes(b"no font")
    fonts += [str(tmp_path / "damaged.ttf"), str(tmp_path / "absent.ttf")]
    assert display_names(["猫"])[0].text == "#0"


def test_long_names_are_cut(fonts):
    (shown,) = display_names(["a long name " * 500])
    assert shown.text.startswith("a long name a long")
    assert shown.text.endswith("...")
