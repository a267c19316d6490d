"""The raw format: original bytes, readable by `datasets`, deterministic, files of limited size."""

import io
import json

import datasets
import numpy as np
import pytest
from PIL import Image

from liquidgen.images import raw
from liquidgen.images.raw import RawDataset, RawWriter, Record
from liquidgen.stages.download.procedural import draw
from liquidgen.utils.errors import UserError

INFO_FIELDS = {"license": "CC0-1.0", "origin": "test", "revision": None, "refused": {}}


def png(seed, size=32):
    file = io.BytesIO()
    draw("colour_fields", size, seed).save(file, "PNG")
    return file.getvalue()


def records(count, labeled=True):
    return [Record(png(i), f"{i}.png", i % 2 if labeled else None) for i in range(count)]


def write(folder, items, *, classes=("cat", "dog"), split="train", max_file_mb=256):
    folder.mkdir(parents=True, exist_ok=True)
    with RawWriter(folder, classes, max_file_mb) as writer:
        for record in items:
            writer.add(split, record)
        return writer.finish(**INFO_FIELDS)


def test_records_are_read_in_order_with_their_bytes(tmp_path):
    items = records(150)
    write(tmp_path, items)
    assert list(RawDataset(tmp_path).records("train")) == items


def test_groups_divide_split_without_gap(tmp_path):
    items = records(150)
    write(tmp_path, items)
    groups = list(RawDataset(tmp_path).groups("train"))
    assert [(group.start, group.count) for group in groups] == [(0, 64), (64, 64), (128, 22)]
    assert groups[2].read() == items[128:]


def test_datasets_reads_images_and_class_names(tmp_path):
    items = records(5)
    write(tmp_path / "raw", items, split="samples")
    found = datasets.load_dataset(
        "parquet",
        data_files={"samples": str(tmp_path / "raw" / "samples-*.parquet")},
        cache_dir=str(tmp_path / "cache"),
    )["samples"]
    assert found.features["label"].names == ["cat", "dog"]
    assert found["label"] == [0, 1, 0, 1, 0]
    expected = np.asarray(Image.open(io.BytesIO(items[3].data)))
    assert np.array_equal(np.asarray(found[3]["image"]), expected)


def test_unlabeled_images_have_no_label_column(tmp_path):
    items = records(3, labeled=False)
    info = write(tmp_path, items, classes=None)
    assert info.splits["train"].per_class is None
    assert list(RawDataset(tmp_path).records("train")) == items


def test_equal_records_give_equal_bytes(tmp_path):
    write(tmp_path / "one", records(70))
    write(tmp_path / "two", records(70))
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes()


def test_files_stay_below_size_limit(tmp_path):
    noise = np.random.default_rng(0).bytes(300_000)
    items = [Record(noise, f"{i}", 0) for i in range(10)]
    info = write(tmp_path, items, max_file_mb=1)
    files = info.splits["train"].files
    assert [file.count for file in files] == [3, 3, 3, 1]
    assert [file.name for file in files][1] == "train-00001.parquet"
    assert all(file.bytes < 1_010_000 for file in files)
    assert list(RawDataset(tmp_path).records("train")) == items


def test_groups_of_large_images_are_small(tmp_path, monkeypatch):
    monkeypatch.setattr(raw, "BYTES_PER_GROUP", 1_000_000)
    noise = np.random.default_rng(0).bytes(300_000)
    items = [Record(noise, f"{i}", 0) for i in range(10)]
    write(tmp_path, items)
    groups = list(RawDataset(tmp_path).groups("train"))
    assert [group.count for group in groups] == [4, 4, 2]
    assert list(RawDataset(tmp_path).records("train")) == items


def test_info_has_counts_per_class_and_license(tmp_path):
    write(tmp_path, records(5))
    content = json.loads((tmp_path / "dataset.json").read_text())
    assert content["splits"]["train"]["per_class"] == {"cat": 3, "dog": 2}
    assert content["classes"] == ["cat", "dog"]
    assert content["license"] == "CC0-1.0"


def test_truncated_or_missing_file_is_named(tmp_path):
    write(tmp_path, records(5))
    path = tmp_path / "train-00000.parquet"
    data = path.read_bytes()
    path.write_bytes(data[:-1])
    with pytest.raises(UserError, match=r"train-00000\.parquet: has \d+ bytes instead of"):
        RawDataset(tmp_path)
    path.unlink()
    with pytest.raises(UserError, match=r"train-00000\.parquet: missing; run"):
        RawDataset(tmp_path)


def test_flipped_bit_is_found_by_verify(tmp_path):
    write(tmp_path, records(5))
    path = tmp_path / "train-00000.parquet"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(UserError, match=r"train-00000\.parquet: damaged"):
        RawDataset(tmp_path).verify()


def test_missing_info_error_names_stage(tmp_path):
    with pytest.raises(UserError, match=r"dataset\.json: missing; run .*download"):
        RawDataset(tmp_path)


def test_unknown_split_is_refused(tmp_path):
    write(tmp_path, records(2))
    with pytest.raises(UserError, match="no split 'holdout'; there are: train"):
        list(RawDataset(tmp_path).records("holdout"))
