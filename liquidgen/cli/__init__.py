"""The command `liquidgen`: draw from a trained model, list presets, look for what is wrong."""

import argparse
import sys
from importlib import import_module

from liquidgen.runtime.signals import INTERRUPTED
from liquidgen.utils.errors import UserError

COMMANDS = ("sample", "presets", "doctor")  # one module each


def main(arguments: list[str] | None = None) -> None:
    """Run a subcommand; exits with 1, and one line, on what the user can mend."""
    parser = argparse.ArgumentParser(prog="liquidgen", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="command")
    for name in COMMANDS:
        module = import_module(f"{__name__}.{name}")
        command = commands.add_parser(name, help=module.HELP, description=module.__doc__)
        module.add_options(command)
        command.set_defaults(run=module.run)
    options = parser.parse_args(arguments)
    try:
        sys.exit(options.run(options))
    except UserError as error:
        sys.exit(f"error: {error}")
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        sys.exit(f"error: {where}{error.strerror or error}")
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
