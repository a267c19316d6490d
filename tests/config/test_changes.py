"""What settings change from those of the last commit."""

import shutil
import subprocess
from pathlib import Path

import pytest
from helpers.checkout import PROJECT

from liquidgen.config.changes import (
    Changes,
    changes_since_commit,
    short_text,
    with_current_names,
)
from liquidgen.config.params import load_params

BOTH_SEEDS = "sample.seed=1 evaluate.seed=2"
GIT = ["git", "-c", "user.name=tests", "-c", "user.email=tests@localhost"]


@pytest.fixture
def committed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository in the current folder, with the params.yaml of the project."""
    for name in ("DVC_EXP_NAME", "DVC_EXP_BASELINE_REV"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    shutil.copy(PROJECT / "params.yaml", tmp_path)
    subprocess.run(["git", "init", "--quiet"], check=True)
    commit("settings")
    return tmp_path


def commit(message: str) -> str:
    subprocess.run([*GIT, "add", "params.yaml"], check=True)
    subprocess.run([*GIT, "commit", "--quiet", "--no-verify", "-m", message], check=True)
    done = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def found(changes: dict[str, object]) -> Changes:
    return changes_since_commit(load_params(changes=changes))


@pytest.mark.parametrize(
    ("changes", "name", "later"),
    [
        ({}, "nano procedural", ""),
        ({"train.learning_rate": 2e-3, "train.num_epochs": 24}, "nano epochs=24 lr=0.002", ""),
        ({"model": "tiny", "block": "attention"}, "tiny attention", ""),
        ({"image_size": 128, "models.nano.cond_dim": 64}, "nano 128px cond_dim=64", ""),
        ({"sample.guidance_scale": 2.5}, "nano procedural", "guidance=2.5"),
        ({"train.seed": 1, "sample.seed": 1}, "nano seed=1", "seed=1"),
        (
            {"sample.seed": 1, "evaluate.seed": 2},
            "nano procedural",
            BOTH_SEEDS,
        ),
        ({"machine.num_workers": 7}, "nano procedural", ""),
    ],
)
def test_name_says_what_differs(committed: Path, changes: dict, name: str, later: str):
    assert (found(changes).name, found(changes).later) == (name, later)


def test_name_without_changes_is_that_of_the_dvc_experiment(
    committed: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("DVC_EXP_NAME", "wide-hat")
    assert found({}).name == "nano wide-hat"
    assert found({"train.seed": 3}).name == "nano seed=3"


def test_experiment_is_compared_with_its_own_baseline(
    committed: Path, monkeypatch: pytest.MonkeyPatch
):
    baseline = commit_with("num_epochs: 9 ", "num_epochs: 20")
    commit_with("num_epochs: 20", "num_epochs: 30")
    assert found({}).changed == {}
    monkeypatch.setenv("DVC_EXP_BASELINE_REV", baseline)
    assert found({}).changed == {"train.num_epochs": (20, 30)}
    assert found({}).commit == baseline[: len(found({}).commit)] != ""


def commit_with(before: str, after: str) -> str:
    text = Path("params.yaml").read_text()
    assert before in text
    Path("params.yaml").write_text(text.replace(before, after, 1))
    return commit(after)


@pytest.mark.parametrize(
    "content", ["train: [", "5", "train: {num_epochs: 3}", "models: {nano: 1}"]
)
def test_settings_of_another_version_are_compared_as_far_as_possible(committed: Path, content: str):
    params = load_params()
    Path("params.yaml").write_text(content)
    commit("another version")
    changed = changes_since_commit(params).changed
    assert changed == (
        {"train.num_epochs": (3, params.train.num_epochs)} if "epochs" in content else {}
    )


def test_no_repository_is_no_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    changes = changes_since_commit(load_params(PROJECT / "params.yaml"))
    assert (changes.commit, changes.changed, changes.name) == ("", {}, "nano procedural")
    assert "dvc repro" in changes.description()


def test_description_has_table_and_command(committed: Path):
    changes = {"train.betas": [0.9, 0.95], "models.nano.cond_dim": 64, "train.compile": True}
    text = found(changes).description()
    assert f"changed since commit `{found({}).commit}`" in text
    assert r"| train.compile | false | true |" in text
    assert "-S 'train.betas=[0.9,0.95]'" in text
    assert "-S models.nano.cond_dim=64" in text
    assert "-S train.compile=true" in text


def test_long_texts_are_cut_and_counted():
    text = short_text({f"train.key{number}": "x" * 40 for number in range(9)})
    assert len(text) < 80
    assert text.startswith(f"key0={'x' * 24}... ")
    assert text.endswith("+8")


def test_command_has_all_digits_and_a_name_few(committed: Path):
    changes = found({"train.learning_rate": 0.00123456789})
    assert "-S train.learning_rate=0.00123456789" in changes.description()
    assert changes.name == "nano lr=0.00123457"


def test_renamed_settings_have_their_names_of_now():
    recorded = {"sample.num_steps": "50", "train.seed": "0"}
    assert with_current_names(recorded) == {"sample.num_inference_steps": "50", "train.seed": "0"}
