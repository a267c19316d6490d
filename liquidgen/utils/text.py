"""Shows text that others have written: on one line of a terminal, in Markdown, in messages."""

import unicodedata
from collections.abc import Collection, Iterable
from difflib import get_close_matches
from itertools import islice

NAMED = 5  # names that a message lists before it counts the rest
LONGEST = 80  # characters of a name in a message
# control characters, lone surrogates, and ends of lines and paragraphs
UNSAFE_CATEGORIES = {"Cc", "Cs", "Zl", "Zp"}
# marks that change the direction of the text around them, and so what it seems to say
DIRECTION_MARKS = set("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
# & first: the others become entities
MARKDOWN = {"&": "&amp;", "<": "&lt;", ">": "&gt;"} | {c: f"\\{c}" for c in "\\`*_[]|~$"}


def one_line(text: str) -> str:
    """Return text as a terminal can show it on one line: what would act on it is escaped."""
    return "".join(_escaped(c) if _is_unsafe(c) else c for c in text)


def markdown(value: object) -> str:
    """Return a value as Markdown that shows it literally, also within a table."""
    return "".join(MARKDOWN.get(c, c) for c in one_line(str(value)))


def python_literal(text: str) -> str:
    """Return a string literal of Python that holds nothing which Markdown could act on."""
    return "".join(f"\\x{ord(c):02x}" if c in "`<>[]&|" else c for c in ascii(text))


def shown(name: object) -> str:
    """Return a name as a message shows it: quoted, escaped, and cut if it is long."""
    text = str(name)
    cut = text if len(text) <= LONGEST else f"{text[:LONGEST]}..."
    return f"'{one_line(cut)}'" if isinstance(name, str) else one_line(cut)


def short(value: object) -> str:
    """Return the representation of a value, cut if it is long."""
    text = repr(value)
    return text if len(text) <= 2 * LONGEST else f"{text[: 2 * LONGEST]}..."


def few(names: Iterable[str], total: int) -> str:
    """Return the first names, and how many more there are."""
    first = [shown(name) for name in islice(names, NAMED)]
    more = f" and {total - len(first)} more" if total > len(first) else ""
    return ", ".join(first) + more


def nearest_names(name: object, known: Collection[str]) -> str:
    """Return the known names that are nearest to an unknown one, or else the first ones."""
    near = get_close_matches(str(name)[:LONGEST], known, n=3)
    if near:
        return f"did you mean {' or '.join(map(shown, near))}?"
    return f"there are {few(known, len(known))}"


def _is_unsafe(character: str) -> bool:
    return unicodedata.category(character) in UNSAFE_CATEGORIES or character in DIRECTION_MARKS


def _escaped(character: str) -> str:
    return character.encode("unicode_escape", "surrogatepass").decode("ascii")
