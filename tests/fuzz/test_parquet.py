"""Damaged and odd Parquet files of users: read, or refused in one line."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers.checkout import PROJECT, read_params
from helpers.fuzz import accepted_or_refused, changed_json, damaged
from helpers.training import PARAMS
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from pydantic import TypeAdapter

from liquidgen.config.settings import DatasetSettings
from liquidgen.stages.download.download import download

pytestmark = pytest.mark.fault("fuzz: Parquet files of users")
BLOCK = read_params(PROJECT / "params.yaml")["datasets"]["own_parquet"]
FEATURES = {"image": {"_type": "Image"}, "label": {"names": ["a", "b"], "_type": "ClassLabel"}}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the odd file is written and read."""
    return tmp_path_factory.mktemp("parquet")


def _png() -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.full((4, 4, 3), 90, np.uint8)).save(file, "PNG")
    return file.getvalue()


def table(labels: list, metadata: Any) -> bytes:
    """Return a Parquet file of images of two classes."""
    images = pa.array([{"bytes": _png(), "path": "a.png"}] * len(labels))
    schema_metadata = {"huggingface": metadata}
    file = io.BytesIO()
    columns = pa.table({"image": images, "label": labels}).replace_schema_metadata(schema_metadata)
    pq.write_table(columns, file)
    return file.getvalue()


VALID = table([0, 1] * 8, json.dumps({"info": {"features": FEATURES}}))


def read(folder: Path, data: bytes) -> None:
    """Read a file as the stage download does."""
    (folder / "own.parquet").write_bytes(data)
    dataset = TypeAdapter(DatasetSettings).validate_python(BLOCK | {"path": str(folder)})
    with accepted_or_refused():
        download(dataset, PARAMS.download, folder.parent / "raw", num_workers=0)


@given(damaged(VALID))
def test_damaged_file(folder: Path, data: bytes):
    read(folder, data)


@given(changed_json({"info": {"features": FEATURES}}))
def test_odd_metadata(folder: Path, metadata: Any):
    read(folder, table([0, 1] * 8, json.dumps(metadata)))


@given(st.binary(max_size=30))
def test_metadata_that_is_no_json(folder: Path, metadata: bytes):
    read(folder, table([0, 1] * 8, metadata))


@given(
    st.one_of(
        st.lists(st.one_of(st.none(), st.integers(-3, 120)), min_size=8, max_size=8),
        st.lists(st.one_of(st.none(), st.text(max_size=9)), min_size=8, max_size=8),
        st.lists(st.floats(), min_size=8, max_size=8),
        st.lists(st.booleans(), min_size=8, max_size=8),
    ),
    st.booleans(),
)
def test_odd_labels(folder: Path, labels: list, has_names: bool):
    metadata = json.dumps({"info": {"features": FEATURES}} if has_names else {})
    read(folder, table(labels, metadata))
