"""Damaged and forged folders of latents: read as they are, or refused in one line."""

import contextlib
import json
from pathlib import Path

import pytest
from helpers.fuzz import accepted_or_refused, changed_json, damaged, replaced
from helpers.small_latents import write
from hypothesis import given
from hypothesis import strategies as st

from liquidgen.latents.manifest import MANIFEST, Manifest
from liquidgen.latents.shards import LatentDataset, verify
from liquidgen.utils.files import StoredFile

SHARD = "train-00000.tar"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six latents of twelve classes."""
    folder = tmp_path_factory.mktemp("latents")
    write(folder, counts=(6,), shape=(4, 2, 2))
    return folder


def read(folder: Path) -> None:
    """Read everything in the folder, as the stage train does."""
    with accepted_or_refused():
        verify(folder)
        dataset = LatentDataset(folder, "train")
        latents, labels = dataset.batch(range(len(dataset)))
        assert len(latents) == len(labels) == dataset.manifest.splits["train"].count
        assert 0 <= int(labels.min()) <= int(labels.max()) < dataset.num_classes


@pytest.mark.fault("fuzz: shards and manifest, damaged")
@given(st.data())
def test_damaged_folder(folder: Path, data: st.DataObject):
    name = data.draw(st.sampled_from([MANIFEST, SHARD]))
    with replaced(folder / name, data.draw(damaged((folder / name).read_bytes()))):
        read(folder)


@pytest.mark.fault("fuzz: shards and manifest, forged with good digests")
@given(st.data())
def test_forged_manifest(folder: Path, data: st.DataObject):
    content = data.draw(changed_json(json.loads((folder / MANIFEST).read_bytes())))
    with replaced(folder / MANIFEST, _sealed(content)):
        read(folder)


@pytest.mark.fault("fuzz: shards and manifest, forged with good digests")
@given(st.data())
def test_forged_shard(folder: Path, data: st.DataObject):
    content = json.loads((folder / MANIFEST).read_bytes())
    with replaced(folder / SHARD, data.draw(damaged((folder / SHARD).read_bytes()))):
        entry = StoredFile.of(folder / SHARD, 6).model_dump(mode="json")
        content["splits"]["train"]["shards"] = [entry]
        with replaced(folder / MANIFEST, _sealed(content)):
            read(folder)


def _sealed(content: dict) -> bytes:
    """Return the manifest with its digest, if it is valid enough to have one."""
    with contextlib.suppress(TypeError, ValueError):
        content = Manifest(**content).sealed().model_dump(mode="json")
    return json.dumps(content).encode()
