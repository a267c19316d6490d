"""Latents that the tests of the stage train share."""

import pytest
from helpers.small_data import prepared, procedural
from helpers.training import SIDE


@pytest.fixture(scope="package")
def latents(tmp_path_factory):
    """Procedural paintings through the builtin autoencoder: 143 latents and 17 held out."""
    dataset = procedural(num_images=160, render_size=SIDE)
    return prepared(tmp_path_factory.mktemp("latents"), dataset, SIDE) / "latents"
