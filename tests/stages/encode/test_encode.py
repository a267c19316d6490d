"""Encode: bytes independent of workers, damage found first, half-finished work continued."""

import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from helpers import small_data
from helpers.checkout import PROJECT, encoded
from PIL import Image

from liquidgen.config.settings import DownloadSettings, FolderSettings
from liquidgen.images.raw import RawDataset
from liquidgen.latents.manifest import Manifest
from liquidgen.runtime import fingerprint as fingerprints
from liquidgen.stages.download.download import download
from liquidgen.stages.encode.parts import PartStore
from liquidgen.utils.errors import UserError
from liquidgen.utils.files import locked


@pytest.fixture(scope="module")
def painted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A read-only folder of raw images: one part of each split."""
    folder = tmp_path_factory.mktemp("painted") / "raw"
    return draw(folder, seed=0)


def draw(folder: Path, seed: int) -> Path:
    return small_data.painted(
        folder, num_images=40, render_size=32, seed=seed, holdout_fraction=0.5
    )


def small(raw: Path, folder: Path, **changes: object) -> Manifest:
    """Encode the raw folder at 32 px, in small batches and with mirrored samples."""
    return encoded(raw, folder, 32, **{"batch_size": 8, "flip": True} | changes)


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_bytes_do_not_depend_on_threads(painted: Path, tmp_path: Path):
    count = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        small(painted, tmp_path / "many", num_workers=2)
        assert torch.get_num_threads() == 3
        torch.set_num_threads(1)
        small(painted, tmp_path / "one")
    finally:
        torch.set_num_threads(count)
    assert content(tmp_path / "many") == content(tmp_path / "one")


def test_damaged_raw_images_are_named_first(tmp_path: Path):
    raw = draw(tmp_path / "raw", seed=0)
    file = raw / "train-00000.parquet"
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    with pytest.raises(UserError, match=r"train-00000\.parquet: damaged"):
        small(raw, tmp_path / "latents")
    assert [path.name for path in tmp_path.iterdir()] == ["raw"]


def test_manifest_has_digest_of_raw_images(painted: Path, tmp_path: Path):
    other = draw(tmp_path / "other", seed=1)
    for raw in (painted, other):
        manifest = small(raw, tmp_path / "latents")
        assert manifest.dataset_digest == RawDataset(raw).info.digest
    assert RawDataset(painted).info.digest != RawDataset(other).info.digest


def test_hidden_files_beside_raw_images_are_ignored(tmp_path: Path):
    raw = draw(tmp_path / "raw", seed=0)
    first = small(raw, tmp_path / "latents")
    (raw / ".DS_Store").touch()
    assert small(raw, tmp_path / "latents") == first


def test_abandoned_work_is_removed_unless_locked(painted: Path, tmp_path: Path):
    work = tmp_path / "work/latents"
    for name in ("abandoned", "in_use"):
        (work / name).mkdir(parents=True)
    with locked(work / "in_use", "encodes here"):
        small(painted, tmp_path / "latents")
        assert sorted(path.name for path in work.iterdir()) == [".in_use.lock", "in_use"]


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the package that is fingerprinted instead of the code that runs."""
    copy = tmp_path / "liquidgen"
    shutil.copytree(PROJECT / "liquidgen", copy, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(fingerprints, "ROOT", copy)
    return copy


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


Run = Callable[[int | None], int]  # where to stop, if at all -> number of parts that it encoded


@pytest.fixture
def run(painted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """A function that encodes, or is interrupted before a part is saved."""
    save = PartStore.save
    saved = []

    def encode_until(stop_at: int | None) -> int:
        def save_or_stop(self: PartStore, part: object, *result: object) -> None:
            if len(saved) == stop_at:
                raise KeyboardInterrupt
            saved.append(part)
            save(self, part, *result)

        saved.clear()
        monkeypatch.setattr(PartStore, "save", save_or_stop)
        small(painted, tmp_path / "latents")
        return len(saved)

    return encode_until


def add_module(package: Path) -> Path:
    """Let encoder.py import a module that no list of modules names."""
    encoder = package / "stages/encode/encoder.py"
    edit(encoder, "import numpy as np", "import numpy as np\nimport liquidgen.stages.encode.gain")
    module = encoder.with_name("gain.py")
    module.write_text('"""Gain of the latents."""\n\nGAIN = 1.0\n')
    return module


@pytest.mark.parametrize(
    ("name", "old", "new", "encoded_again"),
    [
        ("stages/encode/gain.py", "GAIN = 1.0", "GAIN = 2.0", 2),
        ("stages/encode/encoder.py", "/ 127.5 - 1", "/ 128 - 1", 2),
        ("stages/encode/parts.py", "IMAGES_PER_PART = 1024", "IMAGES_PER_PART = 512", 2),
        ("stages/encode/part_encoder.py", "(1 + flip)", "(2 - flip)", 2),
        ("images/decode.py", "reducing_gap=3.0", "reducing_gap=2.0", 2),
        ("latents/autoencoder.py", "/ self._settings.scale", "* self._settings.scale", 2),
        # edits without an effect on parts keep the finished one
        ("stages/encode/gain.py", "GAIN = 1.0", "GAIN = 1.0  # with a comment", 1),
        ("stages/encode/gain.py", "Gain of the latents.", "Another docstring.", 1),
        ("stages/encode/assemble.py", "np.float64", "np.float32", 1),  # after the parts
        ("config/settings.py", "SIZE_MULTIPLE = 16", "SIZE_MULTIPLE = 8", 1),
    ],
)
def test_edit_with_effect_discards_finished_parts(
    package: Path, run: Run, name: str, old: str, new: str, encoded_again: int
) -> None:
    add_module(package)
    with pytest.raises(KeyboardInterrupt):
        run(1)
    edit(package / name, old, new)
    assert run(None) == encoded_again


def test_continued_encode_has_same_bytes(painted: Path, tmp_path: Path, run: Run):
    small(painted, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        run(1)
    assert run(None) == 1
    assert content(tmp_path / "latents") == content(tmp_path / "whole")


def test_upscaled_and_letterboxed_images_are_counted(tmp_path: Path):
    for number, size in enumerate([(48, 32), (28, 20), (64, 64), (48, 48), (24, 24), (32, 16)]):
        (tmp_path / "own").mkdir(exist_ok=True)
        Image.effect_noise(size, 60).convert("RGB").save(tmp_path / f"own/{number}.png")
    dataset = FolderSettings(
        kind="folder",
        path=str(tmp_path / "own"),
        labels="none",
        max_images=None,
        holdout_fraction=0.3,
        license="CC0-1.0",
    )
    settings = DownloadSettings(max_file_mb=1, max_image_mb=256, split_seed=0)
    download(dataset, settings, tmp_path / "raw", num_workers=0)
    changes = {"crop": "letterbox", "flip": False}
    manifest = small(tmp_path / "raw", tmp_path / "latents", **changes)
    noted = sum((Counter(split.notes) for split in manifest.splits.values()), Counter())
    assert noted == {"upscaled": 2, "letterboxed": 3}
    assert manifest.summary().endswith("; 3 letterboxed, 2 upscaled")
    metrics = manifest.metrics()
    assert sum(metrics.get(f"{split}/noted/upscaled", 0) for split in manifest.splits) == 2
    assert manifest.contract.crop == "letterbox"
    assert manifest.license == "CC0-1.0"


def test_license_does_not_change_manifest_digest(painted: Path, tmp_path: Path):
    manifest = small(painted, tmp_path / "latents")
    assert manifest.license == RawDataset(painted).info.license
    assert manifest.model_copy(update={"license": "other"}).sealed().digest == manifest.digest
