"""Fixtures: checkouts with an empty store."""

import shutil
from pathlib import Path

import pytest
from helpers.servers import unused_port

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


@pytest.fixture
def dead_server(monkeypatch: pytest.MonkeyPatch) -> str:
    """The address of a store that refuses connections, set as MLFLOW_TRACKING_URI."""
    uri = f"http://127.0.0.1:{unused_port()}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    return uri
