"""Procedural, folder and Parquet sources: images, classes, order, refused files."""

import io
import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers.small_data import SETTINGS, fill, folder, opened, parquet, png, procedural
from PIL import Image

from liquidgen.images.raw import RawWriter, Record
from liquidgen.stages.download.procedural import STYLES
from liquidgen.stages.download.sources import SOURCES
from liquidgen.utils.errors import UserError

EMOJI = Path("../shared/data/noto_emoji_128")


def test_paintings_are_spread_over_the_styles():
    source, records = opened(procedural())
    assert source.classes == tuple(STYLES)
    assert source.total == len(records) == 30
    assert [record.label for record in records] == [i % len(STYLES) for i in range(30)]
    assert len({record.data for record in records}) == 30
    assert Image.open(io.BytesIO(records[0].data)).size == (16, 16)


def test_paintings_depend_on_seed_and_number():
    few, many = (opened(procedural(num_images=n))[1] for n in (20, 40))
    assert many[:20] == few
    assert opened(procedural(seed=1))[1][0].data != few[0].data


def test_workers_draw_the_same_in_the_same_order():
    settings = procedural(num_images=300)
    assert opened(settings, num_workers=2)[1] == opened(settings)[1]


def test_folder_has_one_class_per_subfolder(tmp_path):
    fill(tmp_path, ["dog/1.png", "cat/2.png", "cat/deep/er/3.PNG"])
    source, records = opened(folder(tmp_path))
    assert source.classes == ("cat", "dog")
    found = {record.path: source.classes[record.label] for record in records}
    assert found == {"dog/1.png": "dog", "cat/2.png": "cat", "cat/deep/er/3.PNG": "cat"}
    assert {record.path: record.data for record in records}["dog/1.png"] == png(0)


def test_folder_may_be_unlabeled(tmp_path):
    fill(tmp_path, ["1.png", "some/2.png"])
    source, records = opened(folder(tmp_path, labels="none"))
    assert source.classes is None
    assert {(record.path, record.label) for record in records} == {
        ("1.png", None),
        ("some/2.png", None),
    }


def test_other_files_are_counted_by_reason(tmp_path):
    names = ["cat/1.png", "cat/notes.txt", "cat/.hidden.png", ".git/x.png", "loose.png", "a/b.eps"]
    fill(tmp_path, names)
    source, records = opened(folder(tmp_path))
    assert [record.path for record in records] == ["cat/1.png"]
    assert source.classes == ("cat",)
    assert source.skipped.counts == {
        "hidden": 2,
        "unsupported_file": 2,
        "outside_class_folders": 1,
        "no_images": 1,
    }


def test_class_folder_without_images_is_named(tmp_path):
    fill(tmp_path, ["cat/1.png", "dog/1.png"])
    (tmp_path / "empty").mkdir()
    (tmp_path / ".cache").mkdir()
    source, _ = opened(folder(tmp_path))
    assert source.classes == ("cat", "dog")
    assert source.skipped.entries == [("empty/", "no_images")]


def test_links_are_followed_but_not_in_circles(tmp_path):
    fill(tmp_path / "elsewhere", ["1.png", "2.png"])
    fill(tmp_path / "own", ["cat/1.png"])
    (tmp_path / "own/dog").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "own/cat/again").symlink_to(tmp_path / "own")
    source, records = opened(folder(tmp_path / "own"))
    assert source.classes == ("cat", "dog")
    assert sorted(record.label for record in records) == [0, 1, 1]


def test_file_name_that_is_no_text_is_counted(tmp_path):
    fill(tmp_path, ["cat/1.png", "dog/2.png"])
    (tmp_path / "cat" / os.fsdecode(b"\xff.png")).write_bytes(png(0))
    source, records = opened(folder(tmp_path))
    assert len(records) == 2
    assert source.skipped.entries == [("cat/\udcff.png", "unprintable_name")]


def test_max_images_of_a_folder_mixes_classes(tmp_path):
    fill(tmp_path, [f"{name}/{i}.png" for name in ("cat", "dog") for i in range(30)])
    _, everything = opened(folder(tmp_path))
    source, some = opened(folder(tmp_path, max_images=20))
    assert some == everything[:20]
    assert source.total == 20
    assert {record.label for record in some} == {0, 1}


def test_images_without_subfolders_are_refused(tmp_path):
    fill(tmp_path, ["1.png", "2.png"])
    with pytest.raises(UserError, match="make one subfolder per class, or set `labels: none`"):
        opened(folder(tmp_path))


@pytest.mark.parametrize("settings", [folder, parquet])
def test_missing_folder_is_refused(tmp_path, settings):
    with pytest.raises(UserError, match=r"nowhere: no such folder; .*dataset's block$"):
        opened(settings(tmp_path / "nowhere"))


def test_missing_relative_folder_tells_where_it_looked():
    with pytest.raises(UserError, match=r"nowhere: no such folder \(looked for /.*/nowhere\); "):
        opened(folder(Path("nowhere")))


def test_parquet_files_give_their_classes_and_bytes(tmp_path):
    records = [Record(png(i), f"{i}.png", i % 2) for i in range(70)]
    with RawWriter(tmp_path, ("cat", "dog"), 1) as writer:
        for record in records:
            writer.add("train", record)
        writer.finish(license="own", origin="test", revision=None, refused={})
    source, found = opened(parquet(tmp_path))
    assert source.classes == ("cat", "dog")
    assert found == records


def test_max_images_of_sorted_files_mixes_classes(tmp_path):
    records = [Record(png(i), f"{i}.png", i // 35) for i in range(70)]
    with RawWriter(tmp_path, ("cat", "dog"), 1) as writer:
        for record in records:
            writer.add("train", record)
        writer.finish(license="own", origin="test", revision=None, refused={})
    source, found = opened(parquet(tmp_path, max_images=20))
    assert source.total == len(found) == 20
    assert {record.label for record in found} == {0, 1}
    assert found == [record for record in records if record in found]
    assert found == opened(parquet(tmp_path, max_images=20))[1]


@pytest.mark.parametrize("values", [["b", "a", "b"], [7, 3, 7]])
def test_values_are_classes_without_metadata(tmp_path, values):
    table = pa.table({"picture": [png(i) for i in range(3)], "kind": values})
    pq.write_table(table, tmp_path / "x.parquet")
    settings = parquet(tmp_path, image_column="picture", label_column="kind")
    source, records = opened(settings)
    assert source.classes == tuple(str(value) for value in sorted(set(values)))
    assert [record.label for record in records] == [1, 0, 1]
    assert records[1].data == png(1)


def test_reading_holds_few_rows_in_memory(tmp_path):
    noise = os.urandom(20_000_000)
    images = [noise[i * 50_000 : (i + 1) * 50_000] for i in range(400)]
    table = pa.table({"image": images, "label": [0, 1] * 200})
    pq.write_table(table, tmp_path / "x.parquet", row_group_size=40)
    del table
    before = pa.total_allocated_bytes()
    source = SOURCES["parquet"](parquet(tmp_path), SETTINGS, 0)
    held = [pa.total_allocated_bytes() - before for record in source.records]
    assert len(held) == 400
    assert max(held) < 10_000_000


def test_rows_without_bytes_or_label_are_counted(tmp_path):
    image = [{"bytes": png(0), "path": None}, {"bytes": None, "path": "x"}, None]
    image.append({"bytes": png(1), "path": "y"})
    table = pa.table({"image": image, "label": [1, 1, 1, None]})
    pq.write_table(table, tmp_path / "x.parquet")
    source, records = opened(parquet(tmp_path))
    assert [record.data for record in records] == [png(0)]
    assert source.skipped.counts == {"no_bytes": 1, "only_path": 1, "no_label": 1}


def test_parquet_files_may_be_unlabeled(tmp_path):
    pq.write_table(pa.table({"image": [png(0), png(1)]}), tmp_path / "x.parquet")
    source, records = opened(parquet(tmp_path, label_column=None))
    assert source.classes is None
    assert [record.label for record in records] == [None, None]


def test_missing_column_is_refused_with_a_list(tmp_path):
    pq.write_table(pa.table({"picture": [png(0)]}), tmp_path / "x.parquet")
    with pytest.raises(UserError, match="no column 'image'; there are: picture"):
        opened(parquet(tmp_path))


def test_image_column_of_another_type_is_refused(tmp_path):
    pq.write_table(pa.table({"image": ["x.png"], "label": [0]}), tmp_path / "x.parquet")
    with pytest.raises(UserError, match="'image' is string; it must be struct"):
        opened(parquet(tmp_path))


@pytest.mark.parametrize("labels", [[[0]], [0.5], [{"a": 1}]])
def test_label_column_of_another_type_is_refused(tmp_path, labels):
    pq.write_table(pa.table({"image": [b"x"], "label": labels}), tmp_path / "x.parquet")
    with pytest.raises(UserError, match=r"label_column: 'label' is .*; it must hold integers"):
        opened(parquet(tmp_path))


def test_files_with_other_class_names_are_refused(tmp_path):
    for name, classes in (("a", ("cat", "dog")), ("b", ("cat", "emu", "dog"))):
        (tmp_path / name).mkdir()
        with RawWriter(tmp_path / name, classes, 1) as writer:
            for label in range(2):
                writer.add("train", Record(png(label), f"{label}.png", label))
            writer.finish(license="own", origin="test", revision=None, refused={})
    rule = r"b/\S+\.parquet: .* label 1 is 'emu', but 'dog' in \S+a/\S+\.parquet; .*leave one out"
    with pytest.raises(UserError, match=rule) as refused:
        opened(parquet(tmp_path))
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(("first", "then"), [(0, "0"), ("0", 0), (0, False)])
def test_files_with_another_kind_of_label_are_refused(tmp_path, first, then):
    for name, label in (("a", first), ("b", then)):
        table = pa.table({"image": [png(0), png(1)], "label": [label, label]})
        pq.write_table(table, tmp_path / f"{name}.parquet")
    with pytest.raises(UserError, match=r"b\.parquet: label_column: 'label' holds .* in \S+a\.par"):
        opened(parquet(tmp_path))


def test_integer_labels_of_any_width_agree(tmp_path):
    for name, kind in (("a", pa.int64()), ("b", pa.int8())):
        table = pa.table({"image": [png(0), png(1)], "label": pa.array([0, 1], kind)})
        pq.write_table(table, tmp_path / f"{name}.parquet")
    assert [record.label for record in opened(parquet(tmp_path))[1]] == [0, 1, 0, 1]


def test_damage_within_a_parquet_file_is_told(tmp_path):
    images = pa.table({"image": [png(i) for i in range(8)], "label": [0, 1] * 4})
    pq.write_table(images, tmp_path / "x.parquet", compression="zstd")
    data = bytearray((tmp_path / "x.parquet").read_bytes())
    data[4:2000] = bytes(1996)
    (tmp_path / "x.parquet").write_bytes(data)
    with pytest.raises(UserError, match=r"x\.parquet: damaged .*; replace it"):
        opened(parquet(tmp_path))


def test_damaged_parquet_file_is_named(tmp_path):
    (tmp_path / "x.parquet").write_bytes(b"PAR1 but no more")
    with pytest.raises(UserError, match=r"x\.parquet: not a whole Parquet file"):
        opened(parquet(tmp_path))


def test_folder_without_parquet_files_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"no \*\.parquet files"):
        opened(parquet(tmp_path))


@pytest.mark.skipif(not EMOJI.exists(), reason=f"{EMOJI} is not there")
def test_real_parquet_files_are_read():
    source, records = opened(parquet(EMOJI))
    assert len(source.classes) == 9
    assert len(records) == source.total == 1639
    assert not source.skipped.entries
