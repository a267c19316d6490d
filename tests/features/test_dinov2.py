"""DINOv2: its files on the hub, its preprocessing, and loading where transformers is installed."""

import sys
from types import SimpleNamespace

import pytest
import torch

from liquidgen.features import dinov2, load_feature_network
from liquidgen.features.dinov2 import REPO, WEIGHTS, Dinov2, checked_folder
from liquidgen.utils.errors import UserError
from liquidgen.utils.files import file_sha256, sha256

PAIRS = list(zip(dinov2.MEAN, dinov2.DEVIATION, strict=True))


def serve(hub, folder, monkeypatch):
    hub.model(REPO.name, folder, REPO.revision, license="apache-2.0")
    monkeypatch.setattr(dinov2, "SHA256", file_sha256(folder / WEIGHTS))


@pytest.fixture
def served(hub, tmp_path, monkeypatch):
    """A folder of the hub with some bytes for weights."""
    folder = tmp_path / "served"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / WEIGHTS).write_bytes(b"weights")
    serve(hub, folder, monkeypatch)
    return folder


class Recorded(torch.nn.Module):
    """Takes the place of transformers' network; remembers its input."""

    config = SimpleNamespace(hidden_size=4)

    def forward(self, pixel_values):
        self.seen = pixel_values
        tokens = torch.arange(24.0).view(1, 6, 4).expand(len(pixel_values), 6, 4)
        return SimpleNamespace(last_hidden_state=tokens)


def test_images_are_normalized_and_the_class_token_is_taken():
    recorded = Recorded()
    features = Dinov2(recorded, "0" * 64)(torch.ones(2, 3, 64, 64))
    assert features.tolist() == [[0, 1, 2, 3]] * 2
    assert recorded.seen.shape == (2, 3, 224, 224)
    white = [(1 - mean) / deviation for mean, deviation in PAIRS]
    assert recorded.seen.amax((0, 2, 3)).tolist() == pytest.approx(white)
    assert recorded.seen.amin((0, 2, 3)).tolist() == pytest.approx(white)


def test_files_are_downloaded_once(served, hub, monkeypatch):
    folder = checked_folder()
    assert (folder / WEIGHTS).read_bytes() == b"weights"
    monkeypatch.setattr(dinov2, "download", None)  # any request would fail
    assert checked_folder() == folder


def test_damaged_copy_is_downloaded_again(served):
    path = checked_folder() / WEIGHTS
    path.resolve().write_bytes(b"other bytes")
    assert (checked_folder() / WEIGHTS).read_bytes() == b"weights"


def test_other_weights_are_refused(served, monkeypatch):
    monkeypatch.setattr(dinov2, "SHA256", sha256(b"others"))
    with pytest.raises(UserError, match="other weights than expected"):
        checked_folder()


def test_missing_repository_is_one_line(hub):
    with pytest.raises(UserError, match="facebook/dinov2-large: no such model on the hub"):
        checked_folder()


def test_missing_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)  # what import does not find
    with pytest.raises(UserError, match=r"needs transformers: `pip install 'liquidgen\[dinov2\]'`"):
        load_feature_network("dinov2", "cpu")


def test_network_of_transformers_is_loaded(hub, tmp_path, monkeypatch):
    transformers = pytest.importorskip("transformers", reason="needs the extra dinov2")

    def config(width, depth, heads):
        sizes = {"hidden_size": width, "num_hidden_layers": depth, "num_attention_heads": heads}
        return transformers.Dinov2Config(**sizes, image_size=518, patch_size=14)

    transformers.Dinov2Model(config(32, 2, 2)).save_pretrained(tmp_path / "served")
    serve(hub, tmp_path / "served", monkeypatch)
    network = load_feature_network("dinov2", "cpu")
    pixels = torch.rand(3, 3, 64, 64) * 2 - 1
    with torch.inference_mode():
        features = network(pixels)
        assert torch.allclose(network(pixels.flip(0)).flip(0), features, atol=1e-5)
    assert features.shape == (3, network.num_features) == (3, 32)
    with torch.device("meta"):
        count = sum(
            one.numel() for one in transformers.Dinov2Model(config(1024, 24, 16)).parameters()
        )
    assert count == 304_368_640
