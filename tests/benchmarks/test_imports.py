"""Benchmarks and scripts fit the package: they import, and each benchmark is in the README."""

from pathlib import Path

import pytest
from helpers.checkout import PROJECT, Checkout

SHARED = {"baselines", "dico", "preparation"}  # modules without a command
FOLDER = PROJECT / "benchmarks"
MODULES = {path.stem for path in FOLDER.glob("[!_]*.py")} - SHARED
BENCHMARKS = sorted(MODULES | {path.parent.name for path in FOLDER.glob("*/__main__.py")})
SCRIPTS = sorted(path.stem for path in (PROJECT / "scripts").glob("*.py"))


@pytest.mark.parametrize(
    ("modules", "folder"),
    [
        ([f"benchmarks.{name}" for name in BENCHMARKS], PROJECT),
        (SCRIPTS, PROJECT / "scripts"),
    ],
    ids=["benchmarks", "scripts"],
)
def test_modules_import(modules: list[str], folder: Path):
    done = Checkout(folder).run("python", "-c", f"import {', '.join(modules)}")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", BENCHMARKS)
def test_benchmark_is_described(name: str):
    assert f"python -m benchmarks.{name}" in (PROJECT / "benchmarks/README.md").read_text()
