"""List the blocks that the selectors of params.yaml can name, with descriptions and licenses."""

from liquidgen.api import params_file
from liquidgen.config.params import BLOCKS, load_choices, load_params
from liquidgen.utils.text import one_line

HEADER = ("", "name", "license", "description")
UNKNOWN = "-"


def run() -> None:
    """List what params.yaml can choose from.

    In each table `*` marks the selected block.
    """
    path = params_file()
    for selector, choice in load_choices(path).items():
        rows = [
            (
                "*" * (name == choice.selected),
                one_line(name),
                one_line(getattr(block, "license", UNKNOWN)),
                one_line(choice.descriptions.get(name, "")),
            )
            for name, block in choice.blocks.items()
        ]
        print(f"{selector}: (a block of `{BLOCKS[selector]}`)\n{_table(rows)}\n")
    print(f"from {path.resolve()}; `*` is selected there", flush=True)
    load_params(path)  # after the tables: a user with a mistyped selector needs them


def _table(rows: list[tuple[str, str, str, str]]) -> str:
    licensed = any(row[2] != UNKNOWN for row in rows)
    shown = [row if licensed else row[:2] + row[3:] for row in [HEADER, *rows]]
    widths = [max(map(len, column)) for column in zip(*shown, strict=True)]
    padded = (map(str.ljust, row, widths) for row in shown)
    return "\n".join("  ".join(row).rstrip() for row in padded)
