"""Look at the installation and at this folder: what is there, what is wrong, and what to do."""

import argparse
from collections.abc import Iterator
from pathlib import Path

from liquidgen.cli.findings import Finding, Level

HELP = "look at the installation and at this folder"


def add_options(parser: argparse.ArgumentParser) -> None:
    """There are none."""


def run(options: argparse.Namespace) -> int:
    """Print one line a finding; 1 if something is wrong."""
    levels = []
    for finding in examine(Path.cwd()):
        levels.append(finding.level)
        print(finding, flush=True)
    wrong = levels.count(Level.WRONG)
    print(f"doctor: to mend: {wrong}" if wrong else "doctor: nothing is wrong")
    return 1 if wrong else 0


def examine(root: Path) -> Iterator[Finding]:
    """What there is to say, the quick things first."""
    from liquidgen.cli import checks

    yield checks.python()
    yield from checks.packages()
    yield checks.settings()
    yield checks.dvc_locks(root)
    yield checks.device()
    yield checks.tracking(root)
    yield checks.hub()
