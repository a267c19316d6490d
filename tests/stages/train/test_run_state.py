"""Identity of a training: what names the folder of its state, and what is refused."""

import os
import shutil
import subprocess
import sys
from typing import get_args

import pytest
from helpers.training import MODEL, PARAMS, SMALL, prepare, train, with_values

from liquidgen.config.settings import TrainSettings
from liquidgen.flow.time_sampling import TIME_SAMPLINGS
from liquidgen.generator.run_file import RUN, read_run
from liquidgen.runtime.fingerprint import imported
from liquidgen.stages.train.run_state import TRAINER
from liquidgen.utils.errors import UserError

NOT_IN_IDENTITY = {
    "learning_rate_decay",
    "decay_fraction",
    "num_epochs",
    "checkpoint_every",
    "log_every",
    "validate_every",
    "preview_every",
}


def test_run_id_is_saved_before_training(latents, tmp_path):
    """The run id is also saved when the store gives another one."""
    training = prepare(tmp_path, latents)
    training.ending_folder.mkdir(parents=True)  # as far as a full disk lets it come
    assert training.run_id() == prepare(tmp_path, latents).run_id()
    assert training.run_id() != prepare(tmp_path, latents, num_epochs=1).run_id()
    training.save_run_id("abc")
    assert training.run_id() == "abc"


DAMAGED = [b"", b'{"run_id": "0123', b'{"run": "abc"}', b'{"run_id": 5}', b"[]", b"\xff"]


@pytest.mark.parametrize("content", DAMAGED)
def test_damaged_run_id_is_one_line(latents, tmp_path, caplog, content):
    training = prepare(tmp_path, latents)
    training.ending_folder.mkdir(parents=True)
    path = training.ending_folder / RUN
    path.write_bytes(content)
    with pytest.raises(UserError, match=f"^{path}: .*; run `liquidgen repair`, then `dvc repro`$"):
        read_run(path.parent)  # as sample reads it
    run_id = training.run_id()
    assert run_id == training.run_id()
    assert [f"{path}: damaged" in message for message in caplog.messages] == [True]


def other(name, value):
    """Return another allowed value of a setting."""
    if name == "time_sampling":
        return next(choice for choice in TIME_SAMPLINGS if choice != value)
    match value:
        case bool():
            return not value
        case int():
            return value + 1
        case float():
            return value / 2
        case list():
            return [0.5, 0.5]
    allowed = get_args(TrainSettings.model_fields[name].annotation)
    return next(choice for choice in allowed if choice != value)


# `init_from` counts by the weights that it names
@pytest.mark.parametrize("name", [key for key in TrainSettings.model_fields if key != "init_from"])
def test_result_relevant_setting_changes_folder(tmp_path, latents, name):
    settings = PARAMS.train.model_copy(update=SMALL)
    before = prepare(tmp_path, latents).folder
    after = prepare(tmp_path, latents, **{name: other(name, getattr(settings, name))}).folder
    assert (before == after) == (name in NOT_IN_IDENTITY)


def test_network_and_latents_change_folder(tmp_path, latents):
    changed = with_values(tmp_path / "latents", latents, lambda values: values.sort(axis=0))
    folders = {
        prepare(tmp_path, latents).folder,
        prepare(tmp_path, latents, model=MODEL.model_copy(update={"width": [32, 96]})).folder,
        prepare(tmp_path, latents, block={"kernel_size": 3}).folder,
        prepare(tmp_path, changed).folder,
    }
    assert len(folders) == 4
    assert {folder.parent for folder in folders} == {tmp_path}


# Prints the name of the folder after each of some edits of a copied package.
EDITS = """
import sys
from pathlib import Path
sys.path.insert(0, "tests")
from helpers.training import prepare
import liquidgen

root = Path(liquidgen.__file__).parent
assert root == Path("liquidgen").resolve()
latents = Path(sys.argv[1])

def edit(name, old, new):
    text = (root / name).read_text()
    assert old in text, (name, old)
    (root / name).write_text(text.replace(old, new, 1))

def report(what):
    print(what, prepare(Path("states"), latents).folder.name)

report("start")
edit("stages/train/learner.py", "Trains a network", "Trains any network")
report("docstring")
edit("flow/matching.py", "import torch", "import torch  # with a comment")
report("comment")
(root / "models/blocks/another.py").write_text("not_selected = 1")
report("block_that_is_not_selected")
edit("stages/train/preview.py", "COLUMNS = 4", "COLUMNS = 5")
report("preview")
edit("latents/weights.py", "import json", "import json, csv")
report("location_of_the_autoencoder")
for name in ("hub/errors.py", "config/settings.py", "tracking/run.py", "flow/solvers.py"):
    (root / name).write_text((root / name).read_text() + "\\nedited = True\\n")
    report(name)

report("before")
edit("flow/time_sampling.py", "return uniforms", "return uniforms.square()")
report("flow")
edit("models/blocks/liquid.py", "self.mlp(h)", "2 * self.mlp(h)")
report("selected_block")
module = root / "stages/train/optimizers.py"
module.write_text("BETA_2 = 0.99")
line = "import liquidgen.stages.train.optimizers"
edit("stages/train/learner.py", "import math", f"import math\\n{line}")
report("new_module")
module.write_text("BETA_2 = 0.5")
report("new_module_edited")
"""


def test_only_code_that_computes_changes_folder(tmp_path, latents):
    """A module is part of the identity because it is imported, not because somebody lists it."""
    for name in ("liquidgen", "tests"):
        shutil.copytree(name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy("params.yaml", tmp_path)
    done = subprocess.run(
        [sys.executable, "-c", EDITS, str(latents)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
    )
    assert done.returncode == 0, done.stderr
    folders = dict(line.split() for line in done.stdout.splitlines())
    relevant = ["before", "flow", "selected_block", "new_module", "new_module_edited"]
    assert len({folders[what] for what in relevant}) == len(relevant)
    irrelevant = folders.keys() - relevant
    assert len(irrelevant) == 10
    assert {what for what in irrelevant if folders[what] != folders["before"]} == set()


def test_identity_has_no_code_of_sampling_or_logging():
    names = imported(TRAINER)
    assert "liquidgen.stages.train.learner" in names
    # all that can change weights or the recorded curve; a module that is new here reruns trainings
    packages = {
        "compute",
        "flow.matching",
        "flow.time_sampling",
        "generator.run_file",
        "latents.contract",
        "latents.known_shards",
        "latents.manifest",
        "latents.shards",
        "models.blocks",
        "models.layers",
        "models.liquidnet",
        "stages.train.checkpoint",
        "stages.train.learner",
        "stages.train.optimizers",
        "stages.train.progress",
        "stages.train.run_state",
        "stages.train.trainer",
        "stages.train.validation",
        "utils",
    }
    parents = {name for name in names if any(other.startswith(f"{name}.") for other in names)}
    unexpected = {
        name
        for name in names.keys() - parents
        if not any(f"{name}.".startswith(f"liquidgen.{package}.") for package in packages)
    }
    assert unexpected == set()


def test_concurrent_trainers_second_is_refused(tmp_path, latents, monkeypatch):
    monkeypatch.setattr("liquidgen.stages.train.run_state.PATIENCE", 0.5)
    training = prepare(tmp_path, latents)
    with training.locked():
        with pytest.raises(UserError, match="another process trains here") as error:
            train(prepare(tmp_path, latents))
        assert str(error.value).startswith(str(training.folder))
        assert "\n" not in str(error.value)
    train(training)  # the lock is free again


def test_damaged_latents_are_refused(tmp_path, latents):
    folder = shutil.copytree(latents, tmp_path / "latents")
    path = folder / "train-00000.tar"
    data = bytearray(path.read_bytes())
    data[3000] ^= 1
    path.write_bytes(data)
    with pytest.raises(UserError, match=r"train-00000\.tar: damaged"):
        prepare(tmp_path, folder)


def test_fewer_latents_than_a_batch_refused(tmp_path, latents):
    with pytest.raises(UserError, match=r"train\.batch_size: 144, but there are only 143"):
        prepare(tmp_path, latents, batch_size=144)
