"""Odd params.yaml: read, or refused in one line."""

from pathlib import Path
from typing import Any

import pytest
from helpers.checkout import PROJECT, read_params
from helpers.fuzz import accepted_or_refused, changed_json, damaged
from hypothesis import given
from hypothesis import strategies as st
from ruamel.yaml import YAML

from liquidgen.config.params import load_params

pytestmark = pytest.mark.fault("fuzz: params.yaml")
FILE = PROJECT / "params.yaml"


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the odd file is written."""
    return tmp_path_factory.mktemp("params") / "params.yaml"


@given(damaged(FILE.read_bytes()))
def test_damaged_file(path: Path, data: bytes):
    path.write_bytes(data)
    with accepted_or_refused():
        load_params(path)


@given(changed_json(read_params(FILE)))
def test_odd_values(path: Path, content: dict[Any, Any]):
    with open(path, "w") as file:
        YAML(typ="safe").dump(content, file)
    with accepted_or_refused():
        load_params(path)


@given(
    st.sampled_from(["[", "{a: ", "- ", "!!python/object:os.system ", "9", "\0"]),
    st.integers(1, 5000),
)
def test_repeated_piece(path: Path, piece: str, times: int):
    path.write_text(f"train: {piece * times}")
    with accepted_or_refused():
        load_params(path)
