"""The direction of imports: packages without circles, and no imports between stages."""

from collections import defaultdict
from graphlib import TopologicalSorter

import pytest
from helpers.checkout import PROJECT

from liquidgen.runtime.fingerprint import direct_imports

MODULES = [
    ".".join(path.relative_to(PROJECT).with_suffix("").parts).removesuffix(".__init__")
    for path in sorted((PROJECT / "liquidgen").rglob("*.py"))
]
LARGEST_FOLDER = 12  # modules


def package_of(module: str) -> str:
    """Return the package of a module, without `liquidgen`; of a stage its own."""
    parts = module.split(".")[1:]
    return ".".join(parts[: 2 if parts[:1] == ["stages"] else 1])


def package_imports() -> dict[str, set[str]]:
    """Return the packages that each package imports."""
    found: dict[str, set[str]] = defaultdict(set)
    for module in MODULES:
        own = package_of(module)
        found[own] |= {package_of(name) for name in direct_imports(module)} - {own, "", "stages"}
    return found


PACKAGE_IMPORTS = package_imports()


def reached(start: str) -> set[str]:
    found: set[str] = set()
    waiting = [start]
    while waiting:
        new = PACKAGE_IMPORTS[waiting.pop()] - found
        found |= new
        waiting += new
    return found


def test_packages_have_no_circles():
    TopologicalSorter(PACKAGE_IMPORTS).prepare()  # raises CycleError and names one


@pytest.mark.parametrize("stage", ["download", "encode", "train", "sample", "evaluate"])
def test_stages_import_no_other_stage(stage: str):
    assert PACKAGE_IMPORTS[f"stages.{stage}"]
    assert {one for one in reached(f"stages.{stage}") if one.startswith("stages")} == set()


def test_models_know_no_data_tracking_or_pipeline():
    # settings know the names of the registries of flow and features, of which one network is on
    # the hub
    assert reached("models") <= {"config", "features", "flow", "hub", "utils"}


def test_flow_is_mathematics_alone():
    assert reached("flow") <= {"utils"}


def test_folders_stay_small():
    sizes: dict[str, int] = defaultdict(int)
    for path in (PROJECT / "liquidgen").rglob("[!_]*.py"):
        sizes[str(path.parent)] += 1
    assert {name for name, size in sizes.items() if size > LARGEST_FOLDER} == set()
