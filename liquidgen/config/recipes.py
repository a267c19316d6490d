"""Recipes: settings for whole situations by name, and how one is written into params.yaml."""

import io
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict
from ruamel.yaml import YAML

from liquidgen.config.params import load_params
from liquidgen.utils.errors import UserError
from liquidgen.utils.files import atomic
from liquidgen.utils.text import nearest_matches, shown

FILE = Path(__file__).with_name("recipes.yaml")
SCALAR = re.compile(r"'[^']*'|\"[^\"]*\"|[^\s,}\]#]+")


class Recipe(BaseModel):
    """Settings for one situation.

    Attributes:
        description: What it is for.
        settings: Values by full key, such as `train.num_epochs`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    description: str
    settings: dict[str, Any]


def recipes() -> dict[str, Recipe]:
    """Return all recipes by name."""
    return {name: Recipe(**one) for name, one in YAML(typ="safe").load(FILE).items()}


def recipe(name: str) -> Recipe:
    """Return the recipe of a name.

    Raises:
        UserError: There is none.
    """
    known = recipes()
    if name not in known:
        near = nearest_matches(name, known)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(known)}"
        raise UserError(f"recipe {shown(name)}: not known; {hint}")
    return known[name]


def write_settings(path: Path, settings: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Change values in params.yaml, and nothing else of the file: comments and layout stay.

    Args:
        path: The file.
        settings: Values by full key.

    Returns:
        The values before and after, of the keys that changed.

    Raises:
        UserError: The file cannot be read, lacks a key, or is wrong with the new values.
    """
    expected = load_params(path, settings).raw
    text = path.read_bytes().decode()
    places, values = YAML().load(text), YAML(typ="safe").load(text)
    lines = text.splitlines(keepends=True)
    changed, edits = {}, []
    for key, after in settings.items():
        *parents, last = key.split(".")
        place, section = places, values
        for parent in parents:
            place, section = place[parent], section[parent]
        if plain(before := section[last]) != plain(after):
            changed[key] = (before, after)
            edits.append((*place.lc.value(last), plain(after)))
    for line, column, value in sorted(edits, reverse=True):  # those on its left stay in their place
        _replace(lines, line, column, value)
    # a value of several lines, an anchor or an alias is not what was replaced
    written = "".join(lines)
    if YAML(typ="safe").load(written) != expected:
        raise UserError(f"{path}: {', '.join(changed)}: cannot be replaced in place; edit them")
    if changed:
        with atomic(path) as stream:
            stream.write(written.encode())
    return changed


def _replace(lines: list[str], number: int, column: int, value: str) -> None:
    """Replace a value in its line; a comment after it stays in its column if there is room."""
    line = lines[number]
    if (found := SCALAR.match(line, column)) is None:  # the caller notices that nothing changed
        return
    end = found.end()
    if comment := re.match(r" +(?=#)", line[end:]):
        end += len(comment[0])
        value = f"{value} ".ljust(end - column)
    lines[number] = line[:column] + value + line[end:]


def plain(value: object) -> str:
    """Return a value as YAML writes it in a line."""
    yaml = YAML(typ="safe")
    yaml.default_flow_style = False
    stream = io.StringIO()
    yaml.dump({"": value}, stream)
    return stream.getvalue().partition(": ")[2].strip() or "null"
