"""The raw format: original bytes, readable by `datasets`, deterministic, files of limited size."""

import io
import json

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from liquidgen.images import raw
from liquidgen.images.raw import RawDataset, RawWriter, Record
from liquidgen.stages.download.procedural import draw
from liquidgen.utils.errors import UserError
from liquidgen.utils.files import StoredFile

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
    with pytest.raises(UserError, match=r"dataset\.json: missing; run `dvc repro`"):
        RawDataset(tmp_path)


def test_unknown_split_is_refused(tmp_path):
    write(tmp_path, records(2))
    with pytest.raises(UserError, match="no split 'holdout'; there are: train"):
        list(RawDataset(tmp_path).records("holdout"))


def resign(folder, change, *, table=None):
    """Change the description of a raw folder, and write another table into its file."""
    path = folder / "train-00000.parquet"
    if table is not None:
        pq.write_table(table, path)
    content = json.loads((folder / "dataset.json").read_text())
    split = content["splits"]["train"]
    split["files"] = [StoredFile.of(path, split["count"]).model_dump()]
    change(content)
    (folder / "dataset.json").write_text(json.dumps(content))


def read_all(folder):
    dataset = RawDataset(folder)
    dataset.verify("train")
    return list(dataset.records("train"))


def refusal(folder, rule):
    with pytest.raises(UserError, match=rule) as refused:
        read_all(folder)
    assert "\n" not in str(refused.value)
    assert str(folder) in str(refused.value)


def setting(path, value):
    def change(content):
        *parents, last = path.split(".")
        for parent in parents:
            content = content[int(parent) if parent.isdigit() else parent]
        content[last] = value

    return change


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        (setting("classes", None), "'train' has other classes than the whole"),
        (setting("classes", ["cat", "cat"]), "classes: 'cat' is there more than once"),
        (setting("classes", ["cat"]), "'train' has other classes"),
        (setting("classes", ["cat", None]), r"classes\.1"),
        (setting("classes", ["cat", 5]), r"classes\.1"),
        (setting("classes", []), "must hold at least one name"),
        (setting("splits.train.count", 6), "6 images, but 5 in its files"),
        (setting("splits.train.count", -1), "greater than or equal to 0"),
        (setting("splits.train.per_class", {"cat": 1, "dog": 1}), "5 images, but 2 in its classes"),
        (setting("splits.train.per_class", {"cat": -2, "dog": 7}), "greater than or equal to 0"),
        (setting("splits.train.files.0.name", "../a.parquet"), "must be the plain name"),
        (setting("splits.train.files.0.name", "/etc/passwd"), "must be the plain name"),
        (setting("splits.train.files.0.bytes", -1), "greater than or equal to 0"),
    ],
)
def test_forged_description_is_one_line(tmp_path, change, rule):
    write(tmp_path, records(5))
    resign(tmp_path, change)
    refusal(tmp_path, rule)


IMAGES = [{"bytes": png(i), "path": f"{i}.png"} for i in range(5)]
LABEL = pa.int64()
STRUCT = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def table(labels=(0, 1, 0, 1, 0), images=IMAGES, kind=STRUCT, label=LABEL):
    columns = {"image": pa.array(images, kind)}
    return pa.table(columns | ({} if labels is None else {"label": pa.array(labels, label)}))


@pytest.mark.parametrize(
    ("content", "rule"),
    [
        (table((0, 1, 0, 1, 99)), "image 4 of the split has label 99"),
        (table((0, 1, -1, 1, 0)), "image 2 of the split has label -1"),
        (table((0, None, 0, 1, 0)), "image 1 of the split has label None"),
        (table(list("abcde"), label=pa.string()), "has other columns than image: struct"),
        (table((0.0,) * 5, label=pa.float64()), "has other columns"),
        (table(None), "has other columns"),
        (table(images=["a"] * 5, kind=pa.string()), "has other columns"),
        (table(images=[None, *IMAGES[1:]]), "image 0 of the split has label 0, or no bytes"),
        (table(images=[{"bytes": None, "path": "a"}, *IMAGES[1:]]), "image 0 of the split"),
        (table((0, 1), IMAGES[:2]), "holds 2 images instead of 5"),
    ],
)
def test_forged_parquet_is_one_line(tmp_path, content, rule):
    write(tmp_path, records(5))
    resign(tmp_path, lambda content: None, table=content)
    refusal(tmp_path, rf"train-00000\.parquet: {rule}")


@pytest.mark.parametrize("left", [0, 4, 100, 2000])
def test_file_that_is_no_parquet_is_one_line(tmp_path, left):
    write(tmp_path, records(5))
    path = tmp_path / "train-00000.parquet"
    path.write_bytes(path.read_bytes()[:left])
    resign(tmp_path, lambda content: None)
    refusal(tmp_path, r"train-00000\.parquet: no whole Parquet file")
