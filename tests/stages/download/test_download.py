"""The stage download: fixed holdout, refused datasets, and earlier data kept after failures."""

import io
from collections import Counter

import pytest

from liquidgen.config.settings import DownloadSettings, FolderSettings, ProceduralSettings
from liquidgen.images.raw import RawDataset
from liquidgen.stages.download.download import HoldoutChoice, download
from liquidgen.stages.download.procedural import draw
from liquidgen.utils.errors import UserError

SETTINGS = DownloadSettings(max_file_mb=256, max_image_mb=256, split_seed=0)


def png(seed):
    file = io.BytesIO()
    draw("marble", 16, seed).save(file, "PNG")
    return file.getvalue()


def folder(path, **changes):
    settings = {"labels": "folders", "max_images": None, "holdout_fraction": 0.25, "license": "own"}
    return FolderSettings(kind="folder", path=str(path), **{**settings, **changes})


def procedural(**changes):
    settings = {"num_images": 200, "render_size": 16, "seed": 0, "holdout_fraction": 0.1}
    return ProceduralSettings(kind="procedural", license="CC0-1.0", **{**settings, **changes})


def fill(root, counts):
    seed = 0
    for name, count in counts.items():
        (root / name).mkdir(parents=True)
        for i in range(count):
            (root / name / f"{i:03d}.png").write_bytes(png(seed))
            seed += 1
    return root


def paths(folder, split):
    return [record.path for record in RawDataset(folder).records(split)]


def test_train_and_holdout_divide_the_images(tmp_path):
    root = fill(tmp_path / "own", {"cat": 20, "dog": 12})
    info = download(folder(root), SETTINGS, tmp_path / "raw", num_workers=0)
    train, holdout = (paths(tmp_path / "raw", split) for split in ("train", "holdout"))
    assert sorted(train + holdout) == sorted(str(p.relative_to(root)) for p in root.rglob("*.png"))
    assert info.splits["holdout"].per_class == {"cat": 5, "dog": 3}
    assert (info.license, info.origin) == ("own", str(root))


def test_files_keep_their_bytes(tmp_path):
    root = fill(tmp_path / "own", {"cat": 4})
    download(folder(root), SETTINGS, tmp_path / "raw", num_workers=0)
    for record in RawDataset(tmp_path / "raw").records("train"):
        assert record.data == (root / record.path).read_bytes()


def test_bytes_do_not_depend_on_workers(tmp_path):
    for name, workers in (("one", 0), ("two", 2)):
        download(procedural(num_images=300), SETTINGS, tmp_path / name, num_workers=workers)
    assert len(list((tmp_path / "one").iterdir())) == 3
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes()


def test_max_images_moves_no_image_between_splits(tmp_path):
    root = fill(tmp_path / "own", {"cat": 40, "dog": 40})
    download(folder(root), SETTINGS, tmp_path / "all", num_workers=0)
    download(folder(root, max_images=30), SETTINGS, tmp_path / "some", num_workers=0)
    for split in ("train", "holdout"):
        some = paths(tmp_path / "some", split)
        assert some == paths(tmp_path / "all", split)[: len(some)]


def test_another_seed_holds_out_other_images(tmp_path):
    for seed in (0, 1):
        settings = DownloadSettings(max_file_mb=256, max_image_mb=256, split_seed=seed)
        download(procedural(), settings, tmp_path / str(seed), num_workers=0)
    assert paths(tmp_path / "0", "holdout") != paths(tmp_path / "1", "holdout")


@pytest.mark.parametrize("fraction", [0.01, 0.0625, 0.3, 0.5, 0.9, 0.99])
@pytest.mark.parametrize("count", [2, 3, 10, 1000])
def test_class_has_its_share_in_both_splits(fraction, count):
    for seed in range(20):
        choice = HoldoutChoice(fraction, seed)
        held_out = sum(choice(7) for _ in range(count))
        assert 1 <= held_out <= count - 1
        assert abs(held_out - fraction * count) <= 1


def test_share_holds_per_class_in_a_mixed_stream():
    choice = HoldoutChoice(0.2, 0)
    labels = [i % 3 if i % 7 else 3 for i in range(700)]
    held_out = Counter(label for label in labels if choice(label))
    for label, count in Counter(labels).items():
        assert abs(held_out[label] - 0.2 * count) <= 1


def test_empty_files_are_counted(tmp_path):
    root = fill(tmp_path / "own", {"cat": 4})
    (root / "cat" / "empty.png").touch()
    info = download(folder(root), SETTINGS, tmp_path / "raw", num_workers=0)
    assert info.refused == {"empty_file": 1}
    assert sum(split.count for split in info.splits.values()) == 4


def test_empty_dataset_is_refused_with_reasons(tmp_path):
    root = fill(tmp_path / "own", {"cat": 0})
    (root / "cat" / "notes.txt").write_text("none")
    with pytest.raises(UserError, match=r"no usable image \(1 unsupported_file\); add images"):
        download(folder(root), SETTINGS, tmp_path / "raw", num_workers=0)


def test_class_with_one_image_is_named(tmp_path):
    root = fill(tmp_path / "own", {"cat": 5, "dog": 1, "emu": 1})
    with pytest.raises(UserError, match=r"one image only in class 'dog', 'emu'; .* add images"):
        download(folder(root), SETTINGS, tmp_path / "raw", num_workers=0)


def test_class_without_images_is_named(tmp_path):
    root = fill(tmp_path / "own", {"cat": 5, "dog": 5})
    for path in (root / "dog").iterdir():
        path.write_bytes(b"")
    with pytest.raises(UserError, match=r"no image of class 'dog'; .* add images"):
        download(folder(root), SETTINGS, tmp_path / "raw", num_workers=0)


def test_single_unlabeled_image_is_refused(tmp_path):
    root = fill(tmp_path / "own", {"cat": 1})
    with pytest.raises(UserError, match="one image only; at least two"):
        download(folder(root, labels="none"), SETTINGS, tmp_path / "raw", num_workers=0)


def test_zero_holdout_is_refused(tmp_path):
    with pytest.raises(UserError, match="holdout_fraction: 0 leaves no images"):
        download(procedural(holdout_fraction=0.0), SETTINGS, tmp_path / "raw", num_workers=0)


def test_failed_download_keeps_the_earlier_one(tmp_path):
    root = fill(tmp_path / "own", {"cat": 5, "dog": 5})
    download(folder(root), SETTINGS, tmp_path / "raw", num_workers=0)
    before = {path.name: path.read_bytes() for path in (tmp_path / "raw").iterdir()}
    for i in range(1, 5):
        (root / "dog" / f"{i:03d}.png").unlink()
    with pytest.raises(UserError):
        download(folder(root), SETTINGS, tmp_path / "raw", num_workers=0)
    assert {path.name: path.read_bytes() for path in (tmp_path / "raw").iterdir()} == before
    assert {path.name for path in tmp_path.iterdir()} == {"own", "raw"}


def test_new_download_replaces_the_earlier_one(tmp_path):
    for count in (40, 20):
        download(procedural(num_images=count), SETTINGS, tmp_path / "raw", num_workers=0)
    assert sum(RawDataset(tmp_path / "raw").counts.values()) == 20
