"""Fixtures: a checkout with runs in MLflow and the outputs of one of them."""

import shutil
from pathlib import Path
from typing import NamedTuple

import pytest
from helpers.checkout import PROJECT
from helpers.runs import (
    HOSTILE,
    record_samples,
    record_scores,
    record_training,
    settings,
    write_outputs,
)


class Recorded(NamedTuple):
    """A checkout.

    Attributes:
        root: Its folder.
        training: Id that the model of the workspace keeps.
    """

    root: Path
    training: str


@pytest.fixture(scope="session")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    """A training that was evaluated twice, one with HTML in its name, one without scores."""
    root = tmp_path_factory.mktemp("recorded")
    files = tmp_path_factory.mktemp("files")
    shutil.copy(PROJECT / "params.yaml", root)
    params = settings()
    with pytest.MonkeyPatch.context() as environment:
        environment.delenv("MLFLOW_TRACKING_URI", raising=False)
        environment.delenv("DVC_EXP_NAME", raising=False)
        record_training(root, settings(train__seed=5), "not evaluated")
        hostile = settings(train__learning_rate=0.002)
        other = record_training(root, hostile, HOSTILE)
        record_samples(root, hostile, other, seed=7)
        record_scores(root, hostile, other, 0.25, files)
        training = record_training(root, params, "plain")
        record_samples(root, params, training, seed=3)
        record_scores(root, params, training, 0.5, files)
        # the samples stay, so this row has no grid of its own
        record_scores(root, settings(evaluate__nearest_k=3), training, 0.5, files)
    write_outputs(root, params, training, first_class=HOSTILE)
    return Recorded(root, training)


@pytest.fixture
def workspace(recorded: Recorded, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The checkout, as the current folder."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.delenv("DVC_EXP_NAME", raising=False)
    monkeypatch.chdir(recorded.root)
    return recorded.root
