"""Text of others, shown on one line of a terminal, in Markdown and in messages."""

import ast
import os
import random
import unicodedata

import pytest

from liquidgen.utils.errors import UserError
from liquidgen.utils.text import (
    escaped,
    is_plain,
    listed,
    markdown,
    nearest_names,
    one_line,
    python_literal,
    shown,
)

pytestmark = pytest.mark.fault("names that act on a terminal or Markdown")

ACTIVE = [chr(code) for code in (*range(32), *range(127, 160), 0x2028, 0x2029, 0x202E, 0x2066)]


@pytest.mark.parametrize("character", ACTIVE, ids=[f"U+{ord(c):04X}" for c in ACTIVE])
def test_what_acts_on_a_terminal_is_escaped(character: str):
    text = one_line(f"a{character}b")
    assert character not in text
    assert (text[0], text[1], text[-1]) == ("a", "\\", "b")
    assert str(UserError(f"a{character}b")) == text


@pytest.mark.parametrize(
    "name",
    ["گل‌ها", "花　見", "Screenshot 1 PM", "naïve", "👩‍🎨", "a\\b"],  # noqa: RUF001
)
def test_names_of_any_language_stay(name: str):
    assert one_line(name) == name


def test_lone_surrogate_is_escaped():
    assert one_line("a\ud800") == "a\\ud800"


@pytest.mark.parametrize("seed", range(20))
def test_any_text_is_safe_everywhere(seed: int):
    choose = random.Random(seed).choice
    pieces = ["<b>", "`", "```", "|", "[x](y)", "\n# h", "\x1b[2J", "\u202e", "é", "'", '"', "\\"]
    text = "".join(choose(pieces) for _ in range(30))
    assert not {"Cc", "Zl", "Zp"} & {unicodedata.category(c) for c in one_line(text)}
    shown_in_card = markdown(text)
    assert "<" not in shown_in_card
    assert all(shown_in_card[i - 1] == "\\" for i, c in enumerate(shown_in_card) if c in "`|[]")
    literal = python_literal(text)
    assert not set("`<>[]|\n") & set(literal)
    assert ast.literal_eval(literal) == text


def test_long_names_and_lists_are_cut():
    assert len(shown("x" * 10_000)) < 100
    names = [f"class {number}" for number in range(400)]
    assert listed(names).endswith("'class 4' and 395 more")
    assert listed(names[:2]) == "'class 0', 'class 1'"
    assert nearest_names("clas 7", names[:10]).startswith("did you mean 'class 7'")
    assert len(nearest_names("zzz", names)) < 100


PLAIN = [
    "Screenshot 9.41\u202fAM.png",  # as macOS names them
    "a\u00a0b",
    "全角\u3000空白",
    "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",  # Persian, with a zero-width non-joiner
    "é",
    "🦆",
]


@pytest.mark.parametrize("name", [*PLAIN, "\u202eright to left", "two\u2028lines"])
def test_names_in_utf_8_stay_as_they_are(name):
    assert is_plain(name)
    assert escaped(name) == name


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        (os.fsdecode(b"na\xefve"), r"na\xefve"),
        ("a\nb", r"a\nb"),
        ("\x1b[31m", r"\x1b[31m"),
        ("\x9b", r"\x9b"),
        ("\ud800", r"\ud800"),
    ],
)
def test_other_names_are_escaped(name, shown):
    assert not is_plain(name)
    assert escaped(name) == shown
