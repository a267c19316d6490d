"""Damaged and forged model folders: loaded as they are, or refused in one line."""

import json
import shutil
from pathlib import Path

import pytest
from helpers.fuzz import accepted_or_refused, changed_json, damaged, replaced
from hypothesis import given
from hypothesis import strategies as st

from liquidgen.generator.model_folder import load_model

pytestmark = pytest.mark.fault("fuzz: model folders")
METADATA = "model.json"


@pytest.fixture(scope="module")
def folder(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder of which one file is damaged at a time."""
    return Path(shutil.copytree(model, tmp_path_factory.mktemp("model") / "folder"))


def load_with(folder: Path, name: str, data: bytes) -> None:
    """Load the model while one of its files is another one."""
    with replaced(folder / name, data), accepted_or_refused():
        load_model(folder)


@given(st.data())
def test_damaged_file(folder: Path, data: st.DataObject):
    files = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    name = data.draw(st.sampled_from(files))
    load_with(folder, name, data.draw(damaged((folder / name).read_bytes())))


@given(st.data())
def test_forged_metadata(folder: Path, data: st.DataObject):
    name = data.draw(st.sampled_from([METADATA, "liquidnet/config.json"]))
    content = data.draw(changed_json(json.loads((folder / name).read_bytes())))
    load_with(folder, name, json.dumps(content).encode())
