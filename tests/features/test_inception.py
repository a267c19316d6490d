"""Inception with random weights: its architecture, its download, and TensorFlow's resize."""

import pytest
import torch

from liquidgen.features import inception, load_feature_network
from liquidgen.features.inception import Inception, resize_as_tensorflow, weights_path
from liquidgen.utils.errors import UserError
from liquidgen.utils.files import file_sha256


@pytest.fixture(scope="module")
def random_weights(tmp_path_factory):
    """A file as torch-fidelity's, with the last layer that features do not need."""
    torch.manual_seed(0)
    last = {"fc.weight": torch.zeros(1008, 2048), "fc.bias": torch.zeros(1008)}
    path = tmp_path_factory.mktemp("inception") / "random.pth"
    torch.save(Inception().state_dict() | last, path)
    return path


@pytest.fixture
def served(random_weights, tmp_path, monkeypatch):
    """The random weights at the address of the real ones, and an empty cache of torch.hub."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(inception, "ADDRESS", random_weights.as_uri())
    monkeypatch.setattr(inception, "SHA256", file_sha256(random_weights))
    return random_weights


def test_architecture_has_the_parameters_of_inception_v3():
    with torch.device("meta"):
        network = Inception()
    count = sum(parameter.numel() for parameter in network.parameters())
    assert count == 23_834_568 - (2048 * 1000 + 1000)  # without the classes of ImageNet


def test_weights_are_downloaded_once_and_give_features(served, monkeypatch):
    network = load_feature_network("inception", "cpu")
    assert network.digest == file_sha256(served)
    monkeypatch.setattr(inception, "ADDRESS", f"file:///none/{served.name}")
    again = load_feature_network("inception", "cpu")
    pixels = torch.rand(3, 3, 64, 64) * 2 - 1
    with torch.inference_mode():
        features = network(pixels)
        assert torch.allclose(again(pixels.flip(0)).flip(0), features, atol=1e-5)
    assert features.shape == (3, network.num_features) == (3, 2048)


def test_failed_download_is_one_line_with_the_remedy(served, monkeypatch):
    monkeypatch.setattr(inception, "ADDRESS", f"file:///none/{served.name}")
    with pytest.raises(UserError, match=r"their download failed .*put file:///none/") as error:
        load_feature_network("inception", "cpu")
    assert str(weights_path()) in str(error.value)
    assert "\n" not in str(error.value)


def test_other_weights_are_refused(served, monkeypatch):
    monkeypatch.setattr(inception, "SHA256", "0" * 64)
    with pytest.raises(UserError, match="their download failed"):
        load_feature_network("inception", "cpu")
    assert not weights_path().exists()
    weights_path().write_bytes(served.read_bytes()[:-1] + b"x")
    with pytest.raises(UserError, match="other weights than expected; delete it"):
        load_feature_network("inception", "cpu")


@pytest.mark.parametrize("size", [64, 512])
def test_resize_takes_the_corners_of_pixels_for_their_places(size):
    ramp = torch.arange(size).float().expand(1, 1, size, size)
    expected = (torch.arange(299) * size / 299).clamp(max=size - 1)
    resized = resize_as_tensorflow(ramp, 299)
    assert torch.allclose(resized, expected.expand(1, 1, 299, 299), atol=1e-3)
