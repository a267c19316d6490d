"""Reads Markdown files: fenced code blocks, links, headings and code spans."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
MARK = re.compile(r"<!-- not run: \S.*? -->\Z")
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
CODE_SPAN = re.compile(r"`([^`\n]+)`")


@dataclass(frozen=True)
class CodeBlock:
    """A fenced code block.

    Attributes:
        path: The Markdown file.
        line: Number of its first line, the fence.
        language: Word after the fence; may be empty.
        text: Lines between the fences.
        marked: Whether the line above says `<!-- not run: reason -->`.
    """

    path: Path
    line: int
    language: str
    text: str
    marked: bool

    def __str__(self) -> str:
        return f"{self.path.name}:{self.line}"


def code_blocks(path: Path) -> Iterator[CodeBlock]:
    """Yield the code blocks of a file."""
    content = path.read_text()
    for found in FENCE.finditer(content):
        before = content[: found.start()]
        yield CodeBlock(
            path=path,
            line=before.count("\n") + 1,
            language=found[1],
            text=found[2],
            marked=bool(MARK.search(before.rstrip("\n"))) and not before.endswith("\n\n"),
        )


def prose(path: Path) -> str:
    """Return a file without its code blocks."""
    return FENCE.sub("", path.read_text())


def links(path: Path) -> list[str]:
    """Return the targets of all links and images."""
    return LINK.findall(CODE_SPAN.sub("", prose(path)))


def anchors(path: Path) -> set[str]:
    """Return the anchors of the headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", prose(path), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def code_spans(path: Path) -> list[str]:
    """Return the text of all code spans."""
    return CODE_SPAN.findall(prose(path))
