"""Encode: the same bytes from any workers, damage found first, and a work folder that goes."""

from collections import Counter
from pathlib import Path

import pytest
import torch
from helpers.checkout import encoded
from PIL import Image

from liquidgen.config.settings import DownloadSettings, FolderSettings, ProceduralSettings
from liquidgen.images.raw import RawDataset
from liquidgen.latents.manifest import Manifest
from liquidgen.stages.download.download import download
from liquidgen.utils.errors import UserError
from liquidgen.utils.files import locked


@pytest.fixture(scope="module")
def painted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Raw images, for reading only."""
    folder = tmp_path_factory.mktemp("painted") / "raw"
    return draw(folder, seed=0)


def draw(folder: Path, seed: int) -> Path:
    dataset = ProceduralSettings(
        kind="procedural", num_images=40, render_size=32, seed=seed, holdout_fraction=0.5
    )
    download(dataset, DownloadSettings(max_file_mb=1, split_seed=0), folder, num_workers=0)
    return folder


def small(raw: Path, folder: Path, **changes: object) -> Manifest:
    """The raw folder encoded at 32 px, in small batches and with mirrored samples."""
    return encoded(raw, folder, 32, **{"batch_size": 8, "flip": True} | changes)


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_the_bytes_depend_on_neither_decoding_threads_nor_torchs(painted: Path, tmp_path: Path):
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


def test_damaged_raw_images_are_named_before_anything_is_made(tmp_path: Path):
    raw = draw(tmp_path / "raw", seed=0)
    file = raw / "train-00000.parquet"
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    with pytest.raises(UserError, match=r"train-00000\.parquet: damaged"):
        small(raw, tmp_path / "latents")
    assert [path.name for path in tmp_path.iterdir()] == ["raw"]


def test_the_manifest_names_the_images_that_it_was_made_of(painted: Path, tmp_path: Path):
    other = draw(tmp_path / "other", seed=1)
    for raw in (painted, other):
        manifest = small(raw, tmp_path / "latents")
        assert manifest.dataset_digest == RawDataset(raw).info.digest
    assert RawDataset(painted).info.digest != RawDataset(other).info.digest


def test_files_that_the_system_leaves_beside_raw_images_do_no_harm(tmp_path: Path):
    raw = draw(tmp_path / "raw", seed=0)
    first = small(raw, tmp_path / "latents")
    (raw / ".DS_Store").touch()
    assert small(raw, tmp_path / "latents") == first


def test_work_of_abandoned_settings_goes_but_not_what_is_in_use(painted: Path, tmp_path: Path):
    work = tmp_path / "work/latents"
    for name in ("abandoned", "in_use"):
        (work / name).mkdir(parents=True)
    with locked(work / "in_use", "encodes here"):
        small(painted, tmp_path / "latents")
        assert sorted(path.name for path in work.iterdir()) == [".in_use.lock", "in_use"]


def test_enlarged_and_letterboxed_images_are_counted_and_reported(tmp_path: Path):
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
    settings = DownloadSettings(max_file_mb=1, split_seed=0)
    download(dataset, settings, tmp_path / "raw", num_workers=0)
    changes = {"crop": "letterbox", "flip": False}
    manifest = small(tmp_path / "raw", tmp_path / "latents", **changes)
    noted = sum((Counter(split.notes) for split in manifest.splits.values()), Counter())
    assert noted == {"upscaled": 2, "letterboxed": 3}
    assert manifest.summary().endswith("; 3 letterboxed, 2 upscaled")
    figures = manifest.figures()
    assert sum(figures.get(f"{split}/noted/upscaled", 0) for split in manifest.splits) == 2
    assert manifest.contract.crop == "letterbox"
    assert manifest.license == "CC0-1.0"


def test_another_licence_makes_no_other_latents(painted: Path, tmp_path: Path):
    manifest = small(painted, tmp_path / "latents")
    assert manifest.license == RawDataset(painted).info.license
    assert manifest.model_copy(update={"license": "other"}).sealed().digest == manifest.digest
