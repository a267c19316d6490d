"""Names of files and classes in tables and messages: one line, and not too many."""

import unicodedata
from collections.abc import Collection
from itertools import islice

SHOWN = 5  # names in a message


def is_plain(name: str) -> bool:
    """Return whether a name is valid UTF-8 without control characters.

    Names of files that are not UTF-8 hold surrogates in Python.
    """
    return not any(unicodedata.category(character) in ("Cc", "Cs") for character in name)


def escaped(name: str) -> str:
    r"""Replace control characters and bytes that are not UTF-8 by escapes such as \x1b."""
    return "".join(c if is_plain(c) else _escape(c) for c in name)


def _escape(character: str) -> str:
    code = ord(character)
    # os.fsdecode turns the byte 0xff into the surrogate U+DCFF
    byte = code - 0xDC00 if 0xDC80 <= code <= 0xDCFF else code
    return ascii(chr(byte))[1:-1]


def listed(names: Collection[object], most: int = SHOWN) -> str:
    """List the first names in quotes, and count the others, for a message."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(map(repr, islice(names, most))) + more
