"""The main function of the stage train: what it refuses before it trains."""

import pytest
from helpers.checkout import PROJECT
from helpers.training import with_other_autoencoder

from liquidgen.config.params import load_params
from liquidgen.stages.train.stage import main
from liquidgen.utils.errors import UserError


def test_other_autoencoder_is_refused_before_training(tmp_path, latents, monkeypatch):
    """The model could not be used: no autoencoder here decodes its latents."""
    params = load_params(PROJECT / "params.yaml", {"machine.device": "cpu"})
    with_other_autoencoder(tmp_path / params.latents_folder, latents)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="latents were made with ffffffffffff") as error:
        main(params, tmp_path)
    assert "\n" not in str(error.value)
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_evaluation_that_will_be_refused_is_named_before_training(
    tmp_path, latents, monkeypatch, caplog
):
    params = load_params(PROJECT / "params.yaml", {"machine.device": "cpu"})
    with_other_autoencoder(tmp_path / params.latents_folder, latents)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="latents were made with"):
        main(params, tmp_path)
    [warning] = [record.getMessage() for record in caplog.records]
    assert "the stage evaluate will refuse it: evaluate: 500 samples, 143 training and" in warning
    assert "evaluate.kid_subset_size is 100, but may be at most 17;" in warning
