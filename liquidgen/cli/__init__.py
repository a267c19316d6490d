"""The command `liquidgen`; each subcommand is the function `run` of one module of this package."""

import sys
from importlib.metadata import version
from typing import Annotated

import typer

from liquidgen.cli import compare, demo, presets, register, sample, sweep, ui, use
from liquidgen.cli.health import doctor, repair
from liquidgen.cli.team import server
from liquidgen.runtime.streams import make_output_lossy
from liquidgen.utils.errors import UserError
from liquidgen.utils.memory import memory_errors
from liquidgen.utils.text import one_line

app = typer.Typer(
    help="Draw from a model, score it, use recipes, compare runs, find and fix problems.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _print_version(asked: bool) -> None:
    if asked:
        print(f"liquidgen {version('liquidgen')}")
        raise typer.Exit


@app.callback()
def _options(
    _version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Print it."),
    ] = False,
) -> None:
    """Take the options that belong to no subcommand."""


app.command("sample")(sample.run)
app.command("demo")(demo.run)
app.command("sweep")(sweep.run)
app.command("presets")(presets.run)
app.command("use")(use.run)
app.command("compare")(compare.run)
app.command("ui")(ui.run)
app.command("server")(server.run)
app.command("register")(register.run)
app.command("doctor")(doctor.run)
app.command("repair")(repair.run)


def main(arguments: list[str] | None = None) -> None:
    """Run a subcommand and exit; an error that the user can fix is one line, and exit code 1."""
    make_output_lossy()
    try:
        with memory_errors("close other programs, or draw fewer images at once"):
            app(arguments, prog_name="liquidgen")
    except UserError as error:
        sys.exit(f"error: {error}")
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        sys.exit(f"error: {one_line(f'{where}{error.strerror or error}')}")
