"""An installation without extras: what it can do, and how it refuses the rest."""

import json
import os
import subprocess
import sys
import tomllib
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import pytest
from helpers.checkout import PROJECT
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from liquidgen import TrainConfig, train
from liquidgen.cli.ui import serve
from liquidgen.runtime.extras import missing_packages, require_extra
from liquidgen.utils.errors import UserError

DECLARED = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
EXTRAS = DECLARED["optional-dependencies"]
# hides modules, as if their packages were not installed
SITECUSTOMIZE = """
import json, os, sys
from importlib.machinery import PathFinder

class Installed(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        absent = name in json.loads(os.environ["ABSENT"])
        return None if absent else super().find_spec(name, path, target)

sys.meta_path[sys.meta_path.index(PathFinder)] = Installed
"""


def names(lines: list[str]) -> set[str]:
    return {canonicalize_name(Requirement(line).name) for line in lines}


def without_extras(tmp_path: Path, *command: str) -> subprocess.CompletedProcess[str]:
    """Run Python without the packages that only extras have."""
    extra = names([line for lines in EXTRAS.values() for line in lines]) - {"liquidgen"}
    absent = [
        module
        for module, holders in metadata.packages_distributions().items()
        if extra & {canonicalize_name(holder) for holder in holders}
    ]
    assert {"dvc", "mlflow", "pyarrow", "sklearn", "webdataset"} <= set(absent)
    (tmp_path / "sitecustomize.py").write_text(SITECUSTOMIZE)
    paths = [str(tmp_path), str(PROJECT)]
    environment = {"PYTHONPATH": os.pathsep.join(paths), "ABSENT": json.dumps(absent)}
    return subprocess.run(
        [sys.executable, *command],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=os.environ | environment,
    )


def test_core_samples_and_lists_presets(model: Path, tmp_path: Path):
    done = without_extras(tmp_path, "-m", "liquidgen", "presets")
    assert done.returncode == 0, done.stderr
    options = ["--model", str(model), "--num-inference-steps", "1"]
    done = without_extras(tmp_path, "-m", "liquidgen", "sample", *options)
    assert done.returncode == 0, done.stderr
    assert len(list((tmp_path / "samples").iterdir())) == 3


def test_core_saves_and_loads_a_pipeline(model: Path, tmp_path: Path):
    code = (
        "from liquidgen import LiquidGenPipeline as Pipeline\n"
        f"Pipeline.from_pretrained({str(model)!r}).save_pretrained('saved')\n"
        "print(Pipeline.from_pretrained('saved')(0, num_inference_steps=1).images[0].size)\n"
    )
    done = without_extras(tmp_path, "-c", code)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "(32, 32)\n"


@pytest.mark.parametrize("work", [lambda: train(TrainConfig()), serve], ids=["train", "ui"])
def test_missing_extra_is_refused_in_one_line(
    monkeypatch: pytest.MonkeyPatch, work: Callable[[], object]
):
    lines = ["torch>=2", 'no-such-library>=1; extra == "pipeline"', 'numpy; extra == "pipeline"']
    monkeypatch.setattr(metadata, "requires", lambda name: lines)
    with pytest.raises(UserError) as refused:
        work()
    expected = "no-such-library: not installed; run `pip install 'liquidgen[pipeline]'`"
    assert str(refused.value) == expected
    require_extra("dev")


def test_installed_extra_is_accepted():
    assert list(missing_packages("pipeline")) == []


def test_extra_that_the_installation_does_not_know_is_refused():
    with pytest.raises(UserError, match=r"^this installation is older than its code"):
        require_extra("of_tomorrow")


def test_package_is_found_in_the_folder_above_a_checkout(tmp_path: Path):
    (tmp_path / "liquidgen").mkdir()
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    command = [sys.executable, "-c", "import liquidgen; assert liquidgen.__file__"]
    subprocess.run(command, cwd=tmp_path, env=environment, check=True)


def test_core_and_extras_share_no_package():
    core = names(DECLARED["dependencies"])
    assert not core & names(EXTRAS["pipeline"])
    assert not (core | names(EXTRAS["pipeline"])) & names(EXTRAS["dev"])


def test_pinned_versions_fit_the_declared_ranges():
    pins = (PROJECT / "requirements.txt").read_text().splitlines()
    pinned = [Requirement(line) for line in pins if not line.startswith("#")]
    versions = {canonicalize_name(one.name): str(one.specifier)[2:] for one in pinned}
    tested = [EXTRAS[name] for name in ("demo", "dev", "pipeline", "team")]
    declared = sum(tested, DECLARED["dependencies"])
    for requirement in map(Requirement, declared):
        if requirement.name != "liquidgen":
            version = versions[canonicalize_name(requirement.name)]
            assert requirement.specifier.contains(version), requirement
