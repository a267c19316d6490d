"""Encode names what it leaves out: classes, images, and parts that are not as they were written."""

import csv
import json
import logging
import shutil
import tracemalloc
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.checkout import encoded
from helpers.small_data import png_of
from PIL import Image

from liquidgen.config.settings import DownloadSettings, FolderSettings
from liquidgen.images.raw import RawDataset
from liquidgen.latents.autoencoder import Autoencoder
from liquidgen.latents.manifest import MANIFEST, Manifest
from liquidgen.latents.shards import LatentDataset, verify
from liquidgen.stages.download.download import download
from liquidgen.stages.download.procedural import draw
from liquidgen.stages.encode.assemble import moments
from liquidgen.stages.encode.parts import PartStore
from liquidgen.utils.errors import UserError
from liquidgen.utils.files import NOTED, SKIPPED

pytestmark = pytest.mark.fault("classes, images and parts that encode loses")


def raw_folder(
    root: Path, images: dict[str, list[bytes]], labels: str = "folders", holdout: float = 0.2
) -> Path:
    """Download image files of classes into a raw folder."""
    for name, files in images.items():
        (root / "own" / name).mkdir(parents=True)
        for number, data in enumerate(files):
            (root / "own" / name / f"{number:03d}.png").write_bytes(data)
    dataset = FolderSettings(
        kind="folder",
        path=str(root / "own"),
        labels=labels,
        max_images=None,
        holdout_fraction=holdout,
        license="CC0-1.0",
    )
    settings = DownloadSettings(max_file_mb=1, max_image_mb=256, split_seed=0)
    download(dataset, settings, root / "raw", num_workers=0)
    return root / "raw"


def png(side: int, seed: int = 0) -> bytes:
    return png_of(draw("marble", side, seed))


def pngs(count: int, side: int = 32) -> list[bytes]:
    return [png(side, seed) for seed in range(count)]


def small(raw: Path, folder: Path, **changes: object) -> Manifest:
    return encoded(raw, folder, 32, **{"batch_size": 8} | changes)


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def rows(path: Path) -> list[tuple[str, str]]:
    with open(path, newline="") as file:
        return [(row["path"], row["reason"]) for row in csv.DictReader(file)]


def test_classes_without_usable_images_are_refused_by_name(tmp_path: Path):
    images = {"cat": pngs(6), "sprite": pngs(5, 16), "dog": pngs(6), "icon": pngs(4, 8)}
    raw = raw_folder(tmp_path, images)
    with pytest.raises(UserError) as refused:
        small(raw, tmp_path / "latents")
    message = str(refused.value)
    assert message.startswith(f"{raw}: no image of class 'icon', 'sprite' in split train, ")
    assert "in split holdout can be encoded (9 too_small)" in message
    assert "cat" not in message
    assert not (tmp_path / "latents").exists()
    # with the limit relaxed, as the message says
    manifest = small(raw, tmp_path / "latents", max_upscale=4.0)
    assert sum(manifest.splits["train"].per_class.values()) == manifest.splits["train"].encoded


@pytest.mark.parametrize("lost", ["train", "holdout"])
def test_class_lost_in_one_split_is_refused(tmp_path: Path, lost: str):
    raw = raw_folder(tmp_path / "first", {"cat": pngs(4), "dog": pngs(4)}, holdout=0.5)
    manifest = small(raw, tmp_path / "first/latents")
    assert manifest.splits[lost].per_class == {"cat": 2, "dog": 2}
    # the same images, those of one class and split cut off
    doomed = [record.path for record in RawDataset(raw).records(lost) if record.label == 1]
    own = tmp_path / "first/own"
    images = {name: [p.read_bytes() for p in sorted((own / name).iterdir())] for name in ("cat",)}
    images["dog"] = [
        path.read_bytes()[: 60 if any(one.endswith(f"dog/{path.name}") for one in doomed) else None]
        for path in sorted((own / "dog").iterdir())
    ]
    raw = raw_folder(tmp_path / "second", images, holdout=0.5)
    with pytest.raises(UserError, match=rf"class 'dog' in split {lost} can be .*\(2 \w+\)"):
        small(raw, tmp_path / "second/latents")


def test_images_per_class_are_counted(tmp_path: Path):
    raw = raw_folder(tmp_path, {"cat": pngs(10), "dog": [*pngs(5), b"no image"]})
    manifest = small(raw, tmp_path / "latents", flip=True)
    assert " train (half mirrored), " in manifest.summary()
    splits = manifest.splits
    assert splits["train"].per_class is not None
    for name in splits:
        labels = LatentDataset(tmp_path / "latents", name).labels
        copies = 2 if name == "train" else 1
        counts = np.bincount(labels) // copies
        assert [*splits[name].per_class.values()] == counts.tolist()
    counts = [split.per_class for split in splits.values()]
    cats, dogs = (" + ".join(str(one[name]) for one in counts) for name in ("cat", "dog"))
    line = manifest.summary()
    assert f"; images per class (train + holdout): 'cat' {cats}, 'dog' {dogs}; license" in line


def test_variants_of_training_images_are_encoded(tmp_path: Path):
    raw = raw_folder(tmp_path, {"cat": pngs(10), "dog": pngs(5)})
    plain = small(raw, tmp_path / "plain", flip=True)
    manifest = small(raw, tmp_path / "latents", flip=True, augmented_variants=3)
    assert manifest.splits["train"].encoded == plain.splits["train"].encoded
    assert manifest.splits["train"].count == 4 * plain.splits["train"].count
    assert manifest.splits["train"].per_class == plain.splits["train"].per_class
    assert " train (3 of 4 augmented, half mirrored), " in manifest.summary()
    # the images as they are, and mirrored, come first; all differ, and keep their classes
    before, after = (samples(tmp_path / name, "train") for name in ("plain", "latents"))
    count = manifest.num_originals("train")
    assert count == len(before)
    assert {*after[:count]} == {*before}
    assert len({*after}) == 4 * count
    labels = [Counter(label for _, label in found) for found in (before, after)]
    assert labels[1] == {label: 4 * number for label, number in labels[0].items()}
    # held-out images have none
    assert samples(tmp_path / "plain", "holdout") == samples(tmp_path / "latents", "holdout")
    # latents and models from before the setting, and without variants, do not have it
    written = json.loads((tmp_path / "plain" / MANIFEST).read_bytes())
    assert "augmented_variants" not in written["contract"]


def samples(folder: Path, split: str) -> list[tuple[bytes, int]]:
    """Return the latents and labels of a split, in order."""
    dataset = LatentDataset(folder, split)
    latents, labels = dataset.batch(range(len(dataset)))
    return [*zip((one.numpy().tobytes() for one in latents), labels.tolist(), strict=True)]


def test_line_names_the_smallest_of_many_classes(tmp_path: Path):
    raw = raw_folder(tmp_path, {f"class{i}": pngs(2 + (i == 3)) for i in range(7)}, holdout=0.3)
    line = small(raw, tmp_path / "latents").summary()
    smallest = ", ".join(f"'class{i}' 1 + 1" for i in (0, 1, 2, 4, 5))
    assert f"(train + holdout): {smallest} and 2 larger classes; license" in line


def test_skipped_and_suspect_images_are_listed(tmp_path: Path):
    white = Image.new("RGBA", (32, 32), (255, 255, 255, 0))
    dark = Image.fromarray(np.arange(1024, dtype=np.uint16).reshape(32, 32))
    usable = pngs(12)
    images = [*usable, usable[0][:-60], b"text", png(8), png_of(white), png_of(dark)]
    raw = raw_folder(tmp_path, {"any": images}, labels="none")
    manifest = small(raw, tmp_path / "latents")
    skipped = {Path(path).name: reason for path, reason in rows(tmp_path / "latents" / SKIPPED)}
    assert skipped == {"012.png": "truncated", "013.png": "undecodable", "014.png": "too_small"}
    noted = {Path(path).name: reason for path, reason in rows(tmp_path / "latents" / NOTED)}
    assert noted == {"015.png": "one_color", "016.png": "dark_16_bit"}
    assert sum(split.encoded for split in manifest.splits.values()) == 14
    assert manifest.splits["train"].per_class is None
    assert verify(tmp_path / "latents") == manifest
    # the next encode, of images without such, leaves no list behind
    raw = raw_folder(tmp_path / "next", {"any": usable}, labels="none")
    small(raw, tmp_path / "latents")
    assert not {SKIPPED, NOTED} & content(tmp_path / "latents").keys()


def test_stretched_images_are_recorded_in_the_contract(tmp_path: Path):
    steps = [np.arange(i, 1024 + i, dtype=np.uint16).reshape(32, 32) for i in range(8)]
    raw = raw_folder(tmp_path, {"any": [png_of(Image.fromarray(one)) for one in steps]}, "none")
    plain = small(raw, tmp_path / "plain")
    stretched = small(raw, tmp_path / "stretched", stretch_to_maximum=True)
    assert stretched.contract.stretch_to_maximum
    assert verify(tmp_path / "stretched") == stretched
    assert stretched.contract.std[0] > plain.contract.std[0]
    written = json.loads((tmp_path / "plain" / MANIFEST).read_bytes())
    assert "stretch_to_maximum" not in written["contract"]  # as in folders from before it


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole encode, and the work folder of one that was interrupted before its second part."""
    root = tmp_path_factory.mktemp("interrupted")
    raw = raw_folder(root, {"cat": pngs(14), "dog": pngs(14)})
    small(raw, root / "whole")
    save_part = PartStore.save

    def save_one(self: PartStore, part: object, *result: object) -> None:
        save_part(self, part, *result)
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PartStore, "save", save_one)
        with pytest.raises(KeyboardInterrupt):
            small(raw, root / "latents")
    return root


def flip_bit(path: Path, place: int) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)


def edit_labels(change: Callable[[list[int]], object]) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        path = folder / "train-00000.json"
        text = json.loads(path.read_text())
        change(text["labels"])
        path.write_text(json.dumps(text))

    return damage


NPY, JSON = "train-00000.npy", "train-00000.json"
DAMAGE: dict[str, Callable[[Path], object]] = {
    "bit of a latent": lambda folder: flip_bit(folder / NPY, 4000),
    "bit of the header": lambda folder: flip_bit(folder / NPY, 60),
    "cut latents": lambda folder: (folder / NPY).write_bytes((folder / NPY).read_bytes()[:900]),
    "no latents": lambda folder: (folder / NPY).write_bytes(b""),
    "zeros": lambda folder: (folder / NPY).write_bytes(bytes((folder / NPY).stat().st_size)),
    "missing latents": lambda folder: (folder / NPY).unlink(),
    "cut description": lambda folder: (folder / JSON).write_bytes(
        (folder / JSON).read_bytes()[:90]
    ),
    "empty description": lambda folder: (folder / JSON).write_bytes(b""),
    "not UTF-8": lambda folder: (folder / JSON).write_bytes(b"\xff" * 100),
    "other JSON": lambda folder: (folder / JSON).write_bytes(b"[1]"),
    "a label fewer": edit_labels(lambda labels: labels.pop()),
    "another label": edit_labels(lambda labels: labels.__setitem__(0, 1 - labels[0])),
    "a label of text": edit_labels(lambda labels: labels.__setitem__(0, "cat")),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_damaged_part_is_encoded_again(
    interrupted: Path, tmp_path: Path, kind: str, caplog: pytest.LogCaptureFixture
):
    shutil.copytree(interrupted / "work", tmp_path / "work")
    (folder,) = (tmp_path / "work/latents").glob("[!.]*")
    DAMAGE[kind](folder)
    with caplog.at_level(logging.WARNING):
        small(interrupted / "raw", tmp_path / "latents")
    assert content(tmp_path / "latents") == content(interrupted / "whole")
    (warning,) = caplog.messages
    assert "train-00000." in warning
    assert "images are encoded again" in warning


def test_intact_part_is_kept(interrupted: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture):
    shutil.copytree(interrupted / "work", tmp_path / "work")
    with caplog.at_level(logging.WARNING):
        small(interrupted / "raw", tmp_path / "latents")
    assert content(tmp_path / "latents") == content(interrupted / "whole")
    assert caplog.messages == []


def test_part_damaged_before_the_shards_is_named(
    interrupted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    save_part = PartStore.save

    def save_damaged(self: PartStore, part: object, *result: object) -> None:
        save_part(self, part, *result)
        for path in (tmp_path / "work/latents").rglob("holdout-00000.npy"):
            flip_bit(path, 1000)

    monkeypatch.setattr(PartStore, "save", save_damaged)
    with pytest.raises(UserError, match=r"holdout-00000\.npy: .*; run `dvc repro` again"):
        small(interrupted / "raw", tmp_path / "latents")
    monkeypatch.undo()
    small(interrupted / "raw", tmp_path / "latents")
    assert content(tmp_path / "latents") == content(interrupted / "whole")


@pytest.mark.parametrize(
    ("flip", "error"),
    [(False, RuntimeError("DefaultCPUAllocator: can't allocate memory")), (True, MemoryError())],
)
def test_batches_are_halved_when_memory_runs_out(
    interrupted: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    flip: bool,
    error: Exception,
):
    raw = interrupted / "raw"
    small(raw, tmp_path / "whole", flip=flip)
    encode = Autoencoder.encode
    largest = 4

    def encode_few(self: Autoencoder, pixels: torch.Tensor) -> torch.Tensor:
        if len(pixels) > largest:
            raise error
        return encode(self, pixels)

    monkeypatch.setattr(Autoencoder, "encode", encode_few)
    with caplog.at_level(logging.WARNING):
        small(raw, tmp_path / "latents", flip=flip)
    assert content(tmp_path / "latents") == content(tmp_path / "whole")
    assert any(message.startswith("encode.batch_size: not enough") for message in caplog.messages)
    largest = 0
    with pytest.raises(UserError, match=r"encode\.batch_size: not enough memory"):
        small(raw, tmp_path / "latents", flip=flip, seed=1)
    assert content(tmp_path / "latents") == content(tmp_path / "whole")


def test_image_too_large_for_memory_is_named(
    interrupted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def fail(self: Image.Image, *args: object, **options: object) -> None:
        raise MemoryError

    monkeypatch.setattr(Image.Image, "resize", fail)
    with pytest.raises(
        UserError, match=r"\.png: not enough memory to decode it; lower encode\.max"
    ):
        encoded(interrupted / "raw", tmp_path / "latents", 48)


def test_moments_take_bounded_memory_and_are_exact(tmp_path: Path):
    rng = np.random.default_rng(0)
    for shape in ((300, 16, 8, 8), (40, 4, 64, 64), (30, 16, 128, 128)):
        arrays = [rng.standard_normal(shape).astype(np.float16) for _ in range(2)]
        # as they were computed before there were pieces: the sums must be the same bit by bit
        values = [array.astype(np.float64) for array in arrays]
        count = sum(array.size for array in arrays) // shape[1]
        mean = (values[0].sum((0, 2, 3)) + values[1].sum((0, 2, 3))) / count
        squares = ((values[0] ** 2).sum((0, 2, 3)) + (values[1] ** 2).sum((0, 2, 3))) / count
        del values
        tracemalloc.start()
        found = moments(arrays, tmp_path)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert found == {"mean": (*mean,), "std": (*np.sqrt(squares - mean**2),)}
        assert peak < 120e6
