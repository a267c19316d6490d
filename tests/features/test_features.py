"""The feature networks: distances grow with every kind of damage."""

import io
from itertools import pairwise

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from helpers.checkout import PROJECT
from helpers.features import NETWORKS
from PIL import Image, ImageFilter

from liquidgen.features import load_feature_network
from liquidgen.features.builtin import WEIGHTS_FOLDER
from liquidgen.stages.download.procedural import STYLES, draw
from liquidgen.stages.evaluate.metrics import frechet_distance, kernel_distance
from liquidgen.utils.errors import UserError

REAL = PROJECT.parent / "shared" / "data"
SIDE, NUM_REAL, NUM_DRAWN, NUM_DAMAGED = 64, 800, 300, 100
DATA = ("procedural", "wikiart7_128", "flowers5_128", "noto_emoji_128")


@pytest.fixture(scope="module", params=NETWORKS)
def network(request):
    return load_feature_network(request.param, "cpu")


def features_of(network, images):
    pixels = torch.from_numpy(np.stack([np.asarray(i) for i in images])).permute(0, 3, 1, 2)
    batches = (pixels / 127.5 - 1).split(128)
    return torch.cat([network(batch) for batch in batches])


@pytest.fixture(scope="module", params=DATA)
def images_and_classes(request):
    """Images of SIDE px and their classes, in a fixed random order."""
    if request.param == "procedural":
        rows = [(draw(s, SIDE, 10**9 + i), s) for i in range(NUM_DRAWN // 10) for s in STYLES]
    else:
        folder = REAL / request.param
        if not folder.is_dir():
            pytest.skip(f"needs real images: {folder} is absent")
        table = pq.read_table(folder, columns=["image", "label"]).to_pylist()
        images = (Image.open(io.BytesIO(row["image"]["bytes"])).convert("RGB") for row in table)
        small = [i.resize((SIDE, SIDE), Image.Resampling.LANCZOS) for i in images]
        rows = list(zip(small, [row["label"] for row in table], strict=True))
    order = np.random.default_rng(0).permutation(len(rows))[:NUM_REAL]
    return [rows[i][0] for i in order], np.array([rows[i][1] for i in order])


@pytest.fixture(scope="module")
def halves(network, images_and_classes):
    """Two disjoint halves of the images: (images, features, classes) of each."""
    images, classes = images_and_classes
    features, half = features_of(network, images), len(images) // 2
    first = (images[:half], features[:half], classes[:half])
    return first, (images[half:], features[half:], classes[half:])


def blurred(image, strength):
    return image.filter(ImageFilter.GaussianBlur(0.5 * strength))


def noisy(image, strength):
    white = np.random.default_rng(0).normal(size=(SIDE, SIDE, 3))
    return Image.fromarray((np.asarray(image) + 8 * strength * white).clip(0, 255).astype("uint8"))


def assert_grows(distances):
    assert all(b > a for a, b in pairwise(distances)), distances


@pytest.fixture(scope="module")
def distances(network):
    """The Frechet distance, or the kernel distance if there are more features than images."""

    def kernel(features, reference):
        size = min(NUM_DAMAGED, len(features), len(reference))
        return kernel_distance(features, reference, subset_size=size, subsets=50, seed=0).mean

    distance = frechet_distance if network.num_features < NUM_DAMAGED * 2 else kernel
    return lambda sets, reference: [distance(features, reference) for features in sets]


@pytest.mark.parametrize("damage", [blurred, noisy])
def test_distance_grows_with_damage(network, distances, halves, damage):
    (_, reference, _), (images, intact, _) = halves
    some = images[:NUM_DAMAGED]
    damaged = [features_of(network, [damage(i, s) for i in some]) for s in (1, 2, 3, 4)]
    assert_grows(distances([intact[:NUM_DAMAGED], *damaged], reference))


def test_distance_grows_with_share_of_other_classes(network, distances, halves):
    (_, reference, of_reference), (_, features, classes) = halves
    kinds = sorted(set(classes))
    first = kinds[: len(kinds) // 2]
    own, other = features[np.isin(classes, first)], features[~np.isin(classes, first)]
    reference, count = reference[np.isin(of_reference, first)], min(len(own), len(other))
    # EfficientNet does not tell a quarter of other emoji from none: their classes are broad
    shares = (0, 0.25, 0.5, 0.75, 1) if network.name == "builtin" else (0, 0.5, 0.75, 1)
    taken = [int(share * count) for share in shares]
    mixed = [torch.cat([own[: count - n], other[:n]]) for n in taken]
    assert_grows(distances(mixed, reference))


def test_distance_grows_with_lost_modes(distances, halves):
    (_, reference, _), (_, features, classes) = halves
    kinds = sorted(set(classes))
    kept = [kinds[: round(share * len(kinds))] for share in (1, 0.8, 0.6, 0.4, 0.2)]
    left = [np.flatnonzero(np.isin(classes, kind)) for kind in kept]
    repeated = [features[np.resize(rows, len(features))] for rows in left]
    assert_grows(distances(repeated, reference))


def test_images_of_any_size_are_accepted(network):
    pixels = torch.rand(2, 3, 40, 96) * 2 - 1
    assert network(pixels).shape == (2, network.num_features)


def test_features_are_stable_across_resolutions(network):
    images = [draw(style, 256, 10**9) for style in STYLES]
    large = features_of(network, images)
    small = features_of(network, [i.resize((64, 64), Image.Resampling.LANCZOS) for i in images])
    assert (torch.cdist(large, small).argmin(1) == torch.arange(len(images))).all()


def test_network_has_name_and_digest(network):
    assert network.name in NETWORKS
    assert len(network.digest) == 64


def test_features_of_an_image_do_not_depend_on_its_batch(network):
    pixels = torch.rand(5, 3, SIDE, SIDE) * 2 - 1
    alone = torch.cat([network(part) for part in pixels.split(1)])
    assert torch.allclose(network(pixels.flip(0)).flip(0), alone, atol=1e-4)


def test_unknown_network_is_named():
    with pytest.raises(UserError, match="no feature network 'vgg'; choose one of builtin"):
        load_feature_network("vgg", "cpu")


def test_builtin_weights_fit_in_1_mb():
    assert (WEIGHTS_FOLDER / "features.safetensors").stat().st_size <= 1_000_000
