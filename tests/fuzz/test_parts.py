"""Damaged parts of an interrupted encode are known as such: no other latents come from them."""

from pathlib import Path

import numpy as np
import pytest
from helpers.fuzz import accepted_or_refused, damaged, replaced
from hypothesis import given
from hypothesis import strategies as st

from liquidgen.images.raw import Group
from liquidgen.images.row_groups import Outcomes
from liquidgen.stages.encode.parts import Part, PartStore

pytestmark = pytest.mark.fault("fuzz: parts of an interrupted encode")
LATENTS = np.random.default_rng(0).standard_normal((6, 4, 2, 2)).astype(np.float16)
LABELS = np.arange(6) % 3
PART = Part("train", 0, (Group("images.parquet", "", 0, 0, 6, 3),))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One finished part."""
    folder = tmp_path_factory.mktemp("parts")
    PartStore(folder).save(PART, LATENTS, LABELS, Outcomes(images=6))
    return folder


@given(st.data())
def test_damaged_part(folder: Path, data: st.DataObject):
    path = data.draw(st.sampled_from(sorted(folder.iterdir())))
    with replaced(path, data.draw(damaged(path.read_bytes()))), accepted_or_refused():
        store = PartStore(folder)
        if store.has(PART):
            latents, labels, outcomes = store.load(PART)
            assert np.array_equal(latents, LATENTS)
            assert np.array_equal(labels, LABELS)
            assert outcomes == Outcomes(images=6)
