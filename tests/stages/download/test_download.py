"""The stage download: fixed holdout, refused datasets, and earlier data kept after failures."""

import os
from collections import Counter

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers.small_data import SETTINGS, parquet, png, procedural

from liquidgen.config.settings import DownloadSettings, FolderSettings
from liquidgen.images.raw import RawDataset
from liquidgen.stages.download.download import HoldoutChoice, download
from liquidgen.utils.errors import UserError


def folder(path, **changes):
    settings = {"labels": "folders", "max_images": None, "holdout_fraction": 0.25, "license": "own"}
    return FolderSettings(kind="folder", path=str(path), **{**settings, **changes})


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
        download(procedural(num_images=200), settings, tmp_path / str(seed), num_workers=0)
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
    with pytest.raises(
        UserError, match=r"no usable image \(1 no_images, 1 unsupported_file\); add images"
    ):
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
        download(
            procedural(num_images=200, holdout_fraction=0.0),
            SETTINGS,
            tmp_path / "raw",
            num_workers=0,
        )


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


def test_skipped_files_are_listed_beside_the_images(tmp_path):
    root = fill(tmp_path / "own", {"cat": 4, "dog": 4})
    (root / "cat" / "empty.png").touch()
    (root / "dog" / "notes.txt").write_text("none")
    (root / "cat" / os.fsdecode(b"\xff.png")).write_bytes(png(0))
    info = download(folder(root), SETTINGS, tmp_path / "raw", num_workers=0)
    assert (tmp_path / "raw" / "skipped.csv").read_text().splitlines() == [
        "path,reason",
        r"cat/\xff.png,unprintable_name",
        "cat/empty.png,empty_file",
        "dog/notes.txt,unsupported_file",
    ]
    assert info.refused == {"empty_file": 1, "unprintable_name": 1, "unsupported_file": 1}


def test_summary_names_the_first_classes(tmp_path):
    root = fill(tmp_path / "own", {f"class{i}": 2 for i in range(7)})
    info = download(folder(root), SETTINGS, tmp_path / "raw", num_workers=0)
    names = "'class0', 'class1', 'class2', 'class3', 'class4' and 2 more"
    assert info.summary().startswith(f"images in 7 classes of 2 ({names}): 7 holdout, 7 train")


def test_many_classes_of_one_image_are_perhaps_captions(tmp_path):
    labels = [f"a picture of {i}" for i in range(400)]
    table = pa.table({"image": [png(0)] * 400, "label": labels})
    pq.write_table(table, tmp_path / "x.parquet")
    with pytest.raises(UserError) as refused:
        download(parquet(tmp_path), SETTINGS, tmp_path / "raw", num_workers=0)
    message = str(refused.value)
    assert len(message) < 500
    assert "and 395 more; " in message
    assert message.endswith("if these are captions, not classes, set `label_column: null`")
    root = fill(tmp_path / "own", {f"{i}": 1 for i in range(7)})
    with pytest.raises(UserError, match="captions, not classes, set `labels: none`"):
        download(folder(root), SETTINGS, tmp_path / "raw", num_workers=0)


def test_long_names_are_cut_in_messages(tmp_path):
    labels = ["x" * 5000 + str(i) for i in range(10)]
    pq.write_table(pa.table({"image": [png(0)] * 10, "label": labels}), tmp_path / "x.parquet")
    with pytest.raises(UserError) as refused:
        download(parquet(tmp_path), SETTINGS, tmp_path / "raw", num_workers=0)
    assert len(str(refused.value)) < 1000


def test_rows_with_paths_alone_ask_to_embed(tmp_path):
    images = [{"bytes": None, "path": f"{i}.png"} for i in range(4)]
    schema = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    table = pa.table({"image": pa.array(images, schema), "label": [0, 1, 0, 1]})
    pq.write_table(table, tmp_path / "x.parquet")
    rule = r"no usable image \(4 only_path\); the image column holds only paths: embed the images"
    with pytest.raises(UserError, match=rule):
        download(parquet(tmp_path), SETTINGS, tmp_path / "raw", num_workers=0)


def test_link_in_place_of_the_images_is_refused(tmp_path):
    root = fill(tmp_path / "own", {"cat": 4})
    (tmp_path / "raw").symlink_to(tmp_path / "own")
    with pytest.raises(UserError, match="raw: is a link, but a stage replaces this folder; remove"):
        download(folder(root), SETTINGS, tmp_path / "raw", num_workers=0)
    assert len(list(root.rglob("*.png"))) == 4
