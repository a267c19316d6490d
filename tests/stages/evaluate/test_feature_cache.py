"""Features of reference images are kept, but never where anything has changed or is damaged."""

from types import SimpleNamespace

import pytest
import torch
from helpers.damage import flip_a_bit

from liquidgen.compute.distributed import SINGLE_PROCESS
from liquidgen.stages.evaluate import feature_cache
from liquidgen.stages.evaluate.feature_cache import FeatureCache
from liquidgen.stages.evaluate.feature_extraction import LabeledFeatures

IMAGES = {"latents": "l", "raw": "r", "seed": 0}


class Source:
    """Counts how often features are extracted."""

    def __init__(self):
        self.calls = 0

    def __call__(self, count=20):
        self.calls += 1
        random = torch.Generator().manual_seed(self.calls)
        thumbnails = torch.full((count, 3, 2, 2), self.calls, dtype=torch.uint8)
        features = torch.randn(count, 8, generator=random)
        return LabeledFeatures(features, torch.arange(count), thumbnails)


class OtherProcess:
    """One of several processes, of which the main one has found a file or not."""

    is_main = False

    def __init__(self, found):
        self.any = lambda own: own or found


def cache(
    folder,
    images=IMAGES,
    network="builtin",
    digest="n",
    autoencoder="a",
    world=SINGLE_PROCESS,
):
    extractor = SimpleNamespace(
        network=SimpleNamespace(digest=digest),
        contract=SimpleNamespace(autoencoder_digest=autoencoder),
        device="cpu",
        nothing=lambda: Source()(0),
    )
    return FeatureCache(folder, extractor, network=network, inputs=images, world=world)


def files(folder):
    return sorted(folder.glob("*"))


@pytest.fixture
def source():
    return Source()


def test_features_are_extracted_once(tmp_path, source):
    first = cache(tmp_path).get("train", 20, source)
    again = cache(tmp_path).get("train", 20, source)
    assert source.calls == 1
    assert all(torch.equal(*columns) for columns in zip(first, again, strict=True))


@pytest.mark.parametrize(
    "change",
    [
        {"images": IMAGES | {"raw": "other"}},
        {"images": IMAGES | {"latents": "other"}},
        {"images": IMAGES | {"seed": 1}},
        {"digest": "other"},
        {"network": "efficientnet_lite0"},
        {"autoencoder": "other"},
    ],
)
def test_any_change_extracts_anew(tmp_path, source, change):
    cache(tmp_path).get("train", 20, source)
    cache(tmp_path, **change).get("train", 20, source)
    assert source.calls == 2


def test_sets_of_images_have_files_of_their_own(tmp_path, source):
    for name, count in (("train", 20), ("noise", 20), ("noise", 10)):
        cache(tmp_path).get(name, count, source)
    assert source.calls == len(files(tmp_path)) == 3


def test_changed_code_extracts_anew(tmp_path, source, monkeypatch):
    cache(tmp_path).get("train", 20, source)
    monkeypatch.setattr(feature_cache, "fingerprint", lambda *modules: "of other code")
    cache(tmp_path).get("train", 20, source)
    assert source.calls == 2


def test_damaged_file_is_extracted_and_written_anew(tmp_path, source):
    cache(tmp_path).get("train", 20, source)
    (path,) = files(tmp_path)
    for damage in (flip_a_bit, lambda path: path.write_bytes(path.read_bytes()[:50])):
        damage(path)
        calls = source.calls
        renewed = cache(tmp_path).get("train", 20, source)
        assert source.calls == calls + 1
        assert torch.equal(cache(tmp_path).get("train", 20, source).features, renewed.features)
        assert source.calls == calls + 1


def test_least_recently_used_files_make_room(tmp_path, source, monkeypatch):
    cache(tmp_path).get("old", 20, source)
    size = files(tmp_path)[0].stat().st_size
    monkeypatch.setattr(feature_cache, "LIMIT", 2 * size + 100)
    cache(tmp_path).get("used", 20, source)
    cache(tmp_path).get("old", 20, source)  # is used again
    cache(tmp_path).get("new", 20, source)
    assert source.calls == len(files(tmp_path)) + 1 == 3
    cache(tmp_path).get("old", 20, source)
    assert source.calls == 3
    cache(tmp_path).get("used", 20, source)
    assert source.calls == 4


@pytest.mark.parametrize("found", [True, False])
def test_other_processes_extract_only_what_the_main_one_lacks(tmp_path, source, found):
    features = cache(tmp_path, world=OtherProcess(found)).get("train", 20, source)
    assert source.calls == (not found)
    assert len(features.labels) == (0 if found else 20)
    assert files(tmp_path) == []  # the main process writes


def test_leftover_of_a_killed_process_is_removed(tmp_path, source):
    (tmp_path / ".other.safetensors.1.tmp").write_bytes(b"half")
    cache(tmp_path).get("train", 20, source)
    assert [path.suffix for path in files(tmp_path)] == [".safetensors"]


def test_folder_that_cannot_be_written_costs_time_only(tmp_path, source):
    (tmp_path / "file").write_text("")
    for _ in range(2):
        cache(tmp_path / "file").get("train", 20, source)
    assert source.calls == 2
