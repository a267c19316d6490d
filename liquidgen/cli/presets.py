"""List the blocks that the selectors of params.yaml can name: what they are, and their licenses."""

import argparse
import re
from typing import Any

from liquidgen.api import params_file
from liquidgen.config.params import BLOCKS, load_choices, load_params

HELP = "list what params.yaml can choose from"
HEADER = ("", "name", "license", "what")
UNKNOWN = "-"


def add_options(parser: argparse.ArgumentParser) -> None:
    """There are none."""


def run(options: argparse.Namespace) -> int:
    """Print a table a selector; `*` marks what is selected.

    Raises UserError for mistakes in params.yaml, after the tables if its blocks have none.
    """
    path = params_file()
    choices, text = load_choices(path), path.read_text()
    for selector, (chosen, blocks) in choices.items():
        group = BLOCKS[selector]
        explained = _comments(text, group)
        rows = [
            ("*" * (name == chosen), name, _license(group, block), explained.get(name, ""))
            for name, block in blocks.items()
        ]
        print(f"{selector}: (a block of `{group}`)\n{_table(rows)}\n")
    print(f"from {path.resolve()}; `*` is selected there", flush=True)
    load_params(path)  # who mistyped a selector looks here for the right word
    return 0


def _comments(text: str, group: str) -> dict[str, str]:
    """The comment beside the name of each block of a group."""
    if not (body := re.search(rf"^{group}:.*\n((?: .*\n|#.*\n|\n)+)", text, re.MULTILINE)):
        return {}
    return dict(re.findall(r"^  (\w+):(?: *\{[^}]*\})? *# *(.*)$", body[1], re.MULTILINE))


def _license(group: str, block: Any) -> str:
    if hasattr(block, "license"):
        return block.license
    if group != "datasets":
        return UNKNOWN
    # a kind of dataset without the key knows its license; its images are not looked at
    from liquidgen.stages.download.sources import SOURCES

    return SOURCES[block.kind](block, 0).license


def _table(rows: list[tuple[str, ...]]) -> str:
    shown = (
        [HEADER, *rows]
        if any(row[2] != UNKNOWN for row in rows)
        else [(mark, name, what) for mark, name, _, what in [HEADER, *rows]]
    )
    widths = [max(map(len, column)) for column in zip(*shown, strict=True)]
    padded = (map(str.ljust, row, widths) for row in shown)
    return "\n".join("  ".join(row).rstrip() for row in padded)
