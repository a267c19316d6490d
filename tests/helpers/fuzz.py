"""Damaged files for the fuzz tests, and what a reader may do with them."""

import copy
import os
import unicodedata
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from helpers.restored import restored
from liquidgen.utils.errors import UserError

TRIED: Counter[str] = Counter()  # inputs by test, for the table of faults

ODD = st.one_of(
    st.none(),
    st.booleans(),
    st.sampled_from([0, -1, 1, 99, 10**7, 2**40, 2**63, 2**70]),
    st.floats(),
    st.text(max_size=12),
    st.sampled_from(["", "../elsewhere", "/etc/passwd", "a\nb", "\x1b[2J", "\0", "nan"]),
    st.lists(st.integers(-2, 200), max_size=4),
    st.dictionaries(st.text(max_size=4), st.integers(), max_size=2),
)


@st.composite
def damaged(draw: st.DrawFn, data: bytes) -> bytes:
    """Return the bytes of a file after one to three flips, cuts, zeroed or repeated pieces."""
    for _ in range(draw(st.integers(1, 3))):
        position = draw(st.integers(0, max(0, len(data) - 1)))
        length = draw(st.integers(1, 64))
        piece = data[position : position + length]
        kind = draw(st.sampled_from(["flip", "cut", "zero", "insert", "repeat", "remove"]))
        if kind == "cut" or not piece:
            data = data[:position]
            continue
        flipped = bytes([piece[0] ^ 1 << draw(st.integers(0, 7))]) + piece[1:]
        new = {
            "flip": flipped,
            "zero": bytes(len(piece)),
            "insert": draw(st.binary(max_size=16)) + piece,
            "repeat": piece + piece,
            "remove": b"",
        }[kind]
        data = data[:position] + new + data[position + length :]
    return data


@st.composite
def changed_json(draw: st.DrawFn, content: Any) -> Any:
    """Return JSON content in which one or two values are others, or missing."""
    content = copy.deepcopy(content)
    for _ in range(draw(st.integers(1, 2))):
        places = list(_places(content))
        if not places:
            break
        container, key = places[draw(st.integers(0, len(places) - 1))]
        if draw(st.integers(0, 4)) == 0:
            del container[key]
        else:
            container[key] = draw(ODD)
    return content


def _places(content: Any) -> Iterator[tuple[Any, Any]]:
    """Yield the container and the key of every value."""
    items = content.items() if isinstance(content, dict) else enumerate(content)
    for key, value in list(items):
        yield content, key
        if isinstance(value, dict | list):
            yield from _places(value)


@contextmanager
def replaced(path: Path, data: bytes) -> Iterator[None]:
    """A file has other content within the context."""
    with restored(path):
        path.write_bytes(data)
        yield


@contextmanager
def accepted_or_refused() -> Iterator[None]:
    """A reader takes its input, or refuses it with one line that a terminal shows as it is."""
    TRIED[os.environ["PYTEST_CURRENT_TEST"].partition(" ")[0]] += 1
    try:
        yield
    except UserError as error:
        line = str(error)
        assert line
        assert not {unicodedata.category(c) for c in line} & {"Cc", "Cs", "Zl", "Zp"}, ascii(line)
