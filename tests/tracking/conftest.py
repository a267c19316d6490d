"""Fixtures: checkouts with an empty store."""

import shutil
from pathlib import Path

import pytest

from liquidgen.tracking.store import Store


@pytest.fixture(scope="session")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty store: MLflow takes seconds to make one."""
    root = tmp_path_factory.mktemp("store")
    Store(root)
    return root / "mlflow.db"


@pytest.fixture
def root(database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout with an empty store."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    shutil.copy(database, tmp_path)
    return tmp_path
