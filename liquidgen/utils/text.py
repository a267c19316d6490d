"""Names of files and classes in tables and messages: one line, and not too many."""

import re
from collections.abc import Callable, Collection
from itertools import islice
from typing import Any

# control characters, and surrogates, which stand for bytes that are not UTF-8
NOT_PLAIN = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
SHOWN = 5  # names in a message
LONGEST = 80  # characters of a name in a message


def is_plain(name: str) -> bool:
    """Return whether a name is valid UTF-8 without control characters."""
    return not NOT_PLAIN.search(name)


def escaped(name: str) -> str:
    r"""Replace control characters and bytes that are not UTF-8 by escapes such as \x1b."""
    return NOT_PLAIN.sub(_escape, name)


def _escape(found: re.Match) -> str:
    code = ord(found[0])
    # os.fsdecode turns the byte 0xff into the surrogate U+DCFF
    byte = code - 0xDC00 if 0xDC80 <= code <= 0xDCFF else code
    return ascii(chr(byte))[1:-1]


def unquoted(name: object) -> str:
    """Show a name as `repr` does, without quotes: nothing in it moves a terminal's cursor."""
    return repr(name)[1:-1]


def shortened(text: str) -> str:
    """Cut the middle out of a long text."""
    return text if len(text) <= LONGEST else f"{text[: LONGEST // 2]}...{text[-LONGEST // 2 :]}"


def listed(names: Collection[object], show: Callable[[Any], str] = repr) -> str:
    """List the first names, and count the others, for a message.

    Args:
        names: The names.
        show: Function that shows a name in one line: in quotes, or `unquoted`.
    """
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(shortened(show(name)) for name in islice(names, SHOWN)) + more
