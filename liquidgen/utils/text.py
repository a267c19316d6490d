"""Shows text that others have written: on one line of a terminal, in tables, in Markdown."""

import re
from collections.abc import Collection
from difflib import get_close_matches
from itertools import islice

# control characters, and surrogates, which stand for bytes that are not UTF-8
NOT_PLAIN = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
# ends of lines and paragraphs, and marks that change the direction of the text around them, and so
# what it seems to say
MOVING = re.compile(r"[\u2028\u2029\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")
SHOWN = 5  # names that a message lists before it counts the rest
LONGEST = 80  # characters of a name in a message
# & first: the others become entities
MARKDOWN = {"&": "&amp;", "<": "&lt;", ">": "&gt;"} | {c: f"\\{c}" for c in "\\`*_[]|~$"}


def is_plain(name: str) -> bool:
    """Return whether a name is valid UTF-8 without control characters."""
    return not NOT_PLAIN.search(name)


def escaped(name: str) -> str:
    r"""Replace control characters and bytes that are not UTF-8 by escapes such as \x1b."""
    return NOT_PLAIN.sub(_escape, name)


def one_line(text: str) -> str:
    """Return text as a terminal can show it on one line: what would act on it is escaped."""
    return MOVING.sub(_escape, escaped(text))


def markdown(value: object) -> str:
    """Return a value as Markdown that shows it literally, also within a table."""
    return "".join(MARKDOWN.get(c, c) for c in one_line(str(value)))


def python_literal(text: str) -> str:
    """Return a string literal of Python that holds nothing which Markdown could act on."""
    return "".join(f"\\x{ord(c):02x}" if c in "`<>[]&|" else c for c in ascii(text))


def unquoted(name: object) -> str:
    """Return a name as a message shows it without quotes: escaped, and cut if it is long."""
    text = str(name)
    if len(text) > LONGEST:
        text = f"{text[: LONGEST // 2]}...{text[-LONGEST // 2 :]}"
    return one_line(text)


def shown(name: object) -> str:
    """Return a name as a message shows it: text in quotes, escaped, and cut if it is long."""
    return f"'{unquoted(name)}'" if isinstance(name, str) else unquoted(name)


def short_repr(value: object) -> str:
    """Return the representation of a value, cut if it is long."""
    text = repr(value)
    return text if len(text) <= 2 * LONGEST else f"{text[: 2 * LONGEST]}..."


def listed(names: Collection[str], quotes: bool = True) -> str:
    """List the first names, and count the others, for a message.

    Args:
        names: The names.
        quotes: Whether each name is in quotes.
    """
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    first = (shown(name) if quotes else unquoted(name) for name in islice(names, SHOWN))
    return ", ".join(first) + more


def nearest_names(name: object, known: Collection[str]) -> str:
    """Return the known names that are nearest to an unknown one, or else the first ones."""
    if near := nearest_matches(str(name), known):
        return f"did you mean {' or '.join(map(shown, near))}?"
    return f"there are {listed(known)}"


def nearest_matches(name: str, known: Collection[str]) -> list[str]:
    """Return up to 3 known names: those that begin with this one, or else the most similar ones."""
    longer = [one for one in known if name and one.startswith(name)]
    return longer[:3] or get_close_matches(name[:LONGEST], known, n=3)


def _escape(found: re.Match) -> str:
    code = ord(found[0])
    # os.fsdecode turns the byte 0xff into the surrogate U+DCFF
    byte = code - 0xDC00 if 0xDC80 <= code <= 0xDCFF else code
    return ascii(chr(byte))[1:-1]
