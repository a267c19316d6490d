"""`liquidgen doctor`: check the installation and the current folder."""

from collections.abc import Iterator
from pathlib import Path

from typer import Exit

from liquidgen.cli.health.findings import Finding, Level
from liquidgen.config.paths import project_root


def run() -> None:
    """Check the installation and this folder."""
    levels = []
    for finding in examine(project_root()):
        levels.append(finding.level)
        print(finding, flush=True)
    errors = levels.count(Level.WRONG)
    print(f"doctor: {errors} to fix" if errors else "doctor: nothing is wrong")
    raise Exit(1 if errors else 0)


def examine(root: Path) -> Iterator[Finding]:
    """Yield the findings, those of quick checks first."""
    from liquidgen.cli.health import checks

    yield checks.python()
    yield from checks.packages()
    yield from checks.settings(root)
    yield from checks.git(root)
    yield checks.dvc_files(root)
    yield from checks.outputs(root)
    yield from checks.missing_outputs(root)
    yield checks.device()
    yield checks.tracking(root)
    yield checks.hub()
