"""List the blocks that the selectors of params.yaml can name: what they are, and their licences."""

import argparse
import re

from liquidgen.api import params_file
from liquidgen.config import BLOCKS, Params, load_params
from liquidgen.settings import DATASET_KINDS, validate

HELP = "list what params.yaml can choose from"
HEADER = ("", "name", "licence", "what")
UNKNOWN = "-"


def add_options(parser: argparse.ArgumentParser) -> None:
    """There are none."""


def run(options: argparse.Namespace) -> int:
    """Print a table a selector; `*` marks what is selected."""
    path = params_file()
    params, text = load_params(path), path.read_text()
    for selector, group in BLOCKS.items():
        chosen = getattr(params.selectors, selector)
        explained = _comments(text, group)
        rows = [
            ("*" * (name == chosen), name, _license(params, group, name), explained.get(name, ""))
            for name in params.raw[group]
        ]
        print(f"{selector}: (a block of `{group}`)\n{_table(rows)}\n")
    print(f"from {path.resolve()}; `*` is selected there")
    return 0


def _comments(text: str, group: str) -> dict[str, str]:
    """The comment beside the name of each block of a group."""
    body = re.search(rf"^{group}:.*\n((?: .*\n|#.*\n|\n)+)", text, re.MULTILINE)[1]
    return dict(re.findall(r"^  (\w+):(?: *\{[^}]*\})? *# *(.*)$", body, re.MULTILINE))


def _license(params: Params, group: str, name: str) -> str:
    block = params.raw[group][name]
    if "license" in block:
        return block["license"]
    if group != "datasets":
        return UNKNOWN
    # a kind of dataset without the key knows its licence; its images are not looked at
    from liquidgen.data.sources import SOURCES

    settings = validate(DATASET_KINDS[block["kind"]], block, f"{group}.{name}")
    return SOURCES[block["kind"]](settings, 0).license


def _table(rows: list[tuple[str, ...]]) -> str:
    shown = (
        [HEADER, *rows]
        if any(row[2] != UNKNOWN for row in rows)
        else [(mark, name, what) for mark, name, _, what in [HEADER, *rows]]
    )
    widths = [max(map(len, column)) for column in zip(*shown, strict=True)]
    padded = (map(str.ljust, row, widths) for row in shown)
    return "\n".join("  ".join(row).rstrip() for row in padded)
