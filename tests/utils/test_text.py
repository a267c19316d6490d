"""Names in messages and tables: one line, not too many, and no control characters."""

import os

import pytest

from liquidgen.utils.text import escaped, is_plain, listed

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
        (os.fsdecode(b"caf\xe9"), r"caf\xe9"),
        ("a\nb", r"a\nb"),
        ("\x1b[31m", r"\x1b[31m"),
        ("\x9b", r"\x9b"),
        ("\ud800", r"\ud800"),
    ],
)
def test_other_names_are_escaped(name, shown):
    assert not is_plain(name)
    assert escaped(name) == shown


def test_long_lists_are_cut():
    assert listed(["a", "b"]) == "'a', 'b'"
    assert listed([f"c{i}" for i in range(400)]) == "'c0', 'c1', 'c2', 'c3', 'c4' and 395 more"
