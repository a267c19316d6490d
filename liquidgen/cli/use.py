"""`liquidgen use`: write a recipe, the settings of a whole situation, into params.yaml."""

from typing import Annotated

from typer import Argument

from liquidgen.config.params import PARAMS, Params, load_params
from liquidgen.config.recipes import plain, recipe, recipes, write_settings
from liquidgen.utils.errors import UserError


def run(
    name: Annotated[
        str | None, Argument(help="Name of a recipe; without it, they are listed.")
    ] = None,
) -> None:
    """Write a recipe into params.yaml of this folder; its comments and other keys stay."""
    if name is None:
        known = recipes()
        width = max(map(len, known))
        for one, found in known.items():
            print(f"{one:{width}}  {found.description}")
        return
    changed = write_settings(PARAMS, recipe(name).settings)
    for key, (before, after) in changed.items():
        print(f"{key}: {plain(before)} -> {plain(after)}")
    count = f"{len(changed)} keys changed" if changed else "nothing to change"
    print(f"use: {name} in {PARAMS}, {count}; {_following(load_params(PARAMS))}")


def _following(params: Params) -> str:
    """Return what to do now: run it, unless the user's images are missing."""
    from liquidgen.cli.health.checks import check_own_images

    try:
        check_own_images(params)
    except UserError as error:
        return f"before `dvc repro`: {error}"
    return "`dvc repro` runs it"
