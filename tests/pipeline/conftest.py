"""Pipelines that the tests of the package share."""

from pathlib import Path

import pytest
from helpers.pipelines import load

from liquidgen import LiquidGenPipeline


@pytest.fixture(scope="module")
def pipe(model: Path) -> LiquidGenPipeline:
    return load(model)


@pytest.fixture(scope="module")
def saved(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("saved") / "pipeline"
    load(model).save_pretrained(folder)
    return folder
