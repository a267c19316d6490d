"""Latents that the tests of the stage train share."""

import pytest
from helpers.checkout import encoded
from helpers.training import PARAMS, SIDE

from liquidgen.config.settings import ProceduralSettings
from liquidgen.stages.download.download import download


@pytest.fixture(scope="package")
def latents(tmp_path_factory):
    """Procedural paintings through the builtin autoencoder: 143 latents and 17 held out."""
    folder = tmp_path_factory.mktemp("latents")
    dataset = ProceduralSettings(
        kind="procedural",
        license="CC0-1.0",
        num_images=160,
        render_size=SIDE,
        seed=0,
        holdout_fraction=0.1,
    )
    download(dataset, PARAMS.download, folder / "raw", num_workers=0)
    encoded(folder / "raw", folder / "latents", SIDE)
    return folder / "latents"
