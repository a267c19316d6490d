"""Parquet files as people have them: metadata of any content, labels of any kind, odd files."""

import json
import logging
import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers.small_data import SETTINGS, fill, opened, parquet, png

from liquidgen.utils.errors import UserError

pytestmark = pytest.mark.fault("Parquet files as people have them")

SMALL = SETTINGS.model_copy(update={"max_image_mb": 1})


def write(path: Path, labels: Any, metadata: bytes | None = None, images: Any = None) -> None:
    """Write a file of pictures with labels."""
    path.parent.mkdir(parents=True, exist_ok=True)
    table = pa.table(
        {
            "image": [png(i) for i in range(len(labels))] if images is None else images,
            "label": labels,
        }
    )
    if metadata is not None:
        table = table.replace_schema_metadata({b"huggingface": metadata})
    pq.write_table(table, path)


def features(label: Any) -> bytes:
    return json.dumps({"info": {"features": {"label": label}}}).encode()


def refusal(settings: Any, **options: Any) -> str:
    with pytest.raises(UserError) as refused:
        opened(settings, **options)
    message = str(refused.value)
    assert "\n" not in message
    return message


METADATA = {
    "not JSON": b"{",
    "not UTF-8": b"\xff\xfe",
    "empty": b"",
    "a list": b"[]",
    "a number": b"7",
    "deep": b"[" * 100_000,
    "info is a list": b'{"info": [1]}',
    "features is text": b'{"info": {"features": "x"}}',
    "feature is a list": features([{"_type": "ClassLabel"}]),
    "names is text": features({"names": "cat"}),
    "names are numbers": features({"names": [1, 2]}),
    "names are null": features({"names": [None, None]}),
    "name is empty": features({"names": ["", "cat"]}),
    "names are doubled": features({"names": ["cat", "cat"]}),
    "name has a control character": features({"names": ["a\u0000b", "cat"]}),
    "name is no UTF-8": features({"names": ["\ud800", "cat"]}),
}


@pytest.mark.parametrize("name", METADATA)
def test_metadata_without_names_are_ignored_with_a_warning(
    name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    for number in range(3):
        write(tmp_path / f"{number}.parquet", [0, 1], METADATA[name])
    source, records = opened(parquet(tmp_path))
    assert source.classes == ("0", "1")
    assert [record.label for record in records] == [0, 1] * 3
    (warning,) = caplog.messages
    assert "0.parquet: its `huggingface` metadata are ignored (" in warning
    assert warning.endswith("), as in 2 more files")
    assert "\n" not in warning


@pytest.mark.parametrize(
    "metadata", [b"{}", b'{"info": null}', b'{"info": {}}', features(None), features({})]
)
def test_metadata_may_say_nothing(
    metadata: bytes, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    write(tmp_path / "x.parquet", [0, 1], metadata)
    assert opened(parquet(tmp_path))[0].classes == ("0", "1")
    assert not caplog.messages


@pytest.mark.parametrize(("column", "key"), [("label", "label_column"), ("image", "image_column")])
def test_doubled_column_is_refused(column: str, key: str, tmp_path: Path):
    table = pa.table(
        [[png(0)], [0], [png(1)] if column == "image" else [1]], ["image", "label", column]
    )
    pq.write_table(table, tmp_path / "x.parquet")
    assert f"x.parquet: {key}: 2 columns are named '{column}'" in refusal(parquet(tmp_path))


def test_path_column_of_numbers_is_ignored(tmp_path: Path):
    images = [{"bytes": png(0), "path": 7}, {"bytes": png(1), "path": 8}]
    write(tmp_path / "x.parquet", [0, 1], images=images)
    assert [record.path for record in opened(parquet(tmp_path))[1]] == ["0000000", "0000001"]


@pytest.mark.parametrize("kept", [-9, -1, 4, 100, 0])
@pytest.mark.parametrize("end", [b"", b"PAR1", bytes(4) + b"PAR1", b"\xff\xff\xff\x7fPAR1"])
def test_error_of_the_reader_is_one_line(kept: int, end: bytes, tmp_path: Path):
    write(tmp_path / "x.parquet", [0, 1])
    data = (tmp_path / "x.parquet").read_bytes()
    (tmp_path / "x.parquet").write_bytes(data[:kept] + end)
    assert "x.parquet: not a whole Parquet file (" in refusal(parquet(tmp_path))


def test_damaged_description_is_one_line(tmp_path: Path):
    write(tmp_path / "x.parquet", [0, 1])
    data = (tmp_path / "x.parquet").read_bytes()
    (tmp_path / "x.parquet").write_bytes(data[:-608] + bytes(600) + data[-8:])
    assert "x.parquet: " in refusal(parquet(tmp_path))


def test_unused_class_names_are_dropped_with_a_line(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    """What `filter` of `datasets` leaves."""
    names = ["ant", "bee", "cat", "dog"]
    write(tmp_path / "x.parquet", [1, 3, 3, 1], features({"names": names, "_type": "ClassLabel"}))
    source, records = opened(parquet(tmp_path))
    assert source.classes == ("bee", "dog")
    assert [record.label for record in records] == [0, 1, 1, 0]
    assert caplog.messages == [f"{tmp_path}: no images of 'ant', 'cat': not among the classes"]


def test_classes_of_the_block_choose_and_order(tmp_path: Path):
    write(tmp_path / "x.parquet", ["ant", "bee", "cat", "bees", None])
    source, records = opened(parquet(tmp_path, classes=["cat", "bee|bees"]))
    assert source.classes == ("cat", "bee")
    assert [(record.data, record.label) for record in records] == [
        (png(1), 1),
        (png(2), 0),
        (png(3), 1),
    ]
    assert source.skipped.entries == [
        (f"{tmp_path}/x.parquet: row 0", "other_class"),
        (f"{tmp_path}/x.parquet: row 4", "no_label"),
    ]


def test_labels_beyond_the_names_are_counted(tmp_path: Path):
    write(tmp_path / "x.parquet", [0, 1, 2, 99, -1], features({"names": ["ant", "bee"]}))
    source, records = opened(parquet(tmp_path))
    assert source.classes == ("ant", "bee")
    assert len(records) == 2
    assert source.skipped.counts == {"other_class": 2, "no_label": 1}


def test_class_that_no_label_has_is_refused(tmp_path: Path):
    write(tmp_path / "x.parquet", ["ant", "bee"])
    message = refusal(parquet(tmp_path, classes=["ant", "beee"]))
    assert "`classes` of the block has 'beee', but no label has this name; did you mean 'bee'?" in (
        message
    )


@pytest.mark.parametrize(
    "labels",
    [pa.array([0.0, 2.0, None]), pa.array([0.0, 2.0, float("nan")]), pa.array([0, 2, None])],
)
def test_whole_floats_are_integer_labels(labels: pa.Array, tmp_path: Path):
    write(tmp_path / "x.parquet", labels)
    source, records = opened(parquet(tmp_path))
    assert source.classes == ("0", "2")
    assert [record.label for record in records] == [0, 1]
    assert source.skipped.counts == {"no_label": 1}
    write(tmp_path / "x.parquet", labels, features({"names": ["ant", "bee", "cat"]}))
    assert opened(parquet(tmp_path))[0].classes == ("ant", "cat")


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.string_view()])
@pytest.mark.parametrize("image", [pa.binary(), pa.large_binary(), pa.binary_view()])
def test_columns_of_other_writers_are_read(kind: pa.DataType, image: pa.DataType, tmp_path: Path):
    images = pa.array([png(0), png(1)], image)
    write(tmp_path / "x.parquet", pa.array(["cat", "dog"], kind), images=images)
    source, records = opened(parquet(tmp_path))
    assert source.classes == ("cat", "dog")
    assert [record.data for record in records] == [png(0), png(1)]


@pytest.mark.parametrize("value", [0.5, float("inf"), 1e-9])
def test_other_floats_are_refused(value: float, tmp_path: Path):
    write(tmp_path / "x.parquet", [1.0, value])
    assert f"'label' is {value} in a row; it must hold integers" in refusal(parquet(tmp_path))


@pytest.mark.parametrize(
    "images",
    [["a.png"], [{"path": "a.png"}], pa.array(["a.png"], pa.large_string())],
    ids=["text", "struct", "large text"],
)
def test_column_of_paths_says_to_embed(images: Any, tmp_path: Path):
    write(tmp_path / "x.parquet", [0], images=images)
    assert "it holds only paths; embed the images" in refusal(parquet(tmp_path))


def test_list_of_columns_is_cut(tmp_path: Path):
    table = pa.table({f"c{i}": [0] for i in range(400)})
    pq.write_table(table, tmp_path / "x.parquet")
    assert refusal(parquet(tmp_path)).endswith("there are: c0, c1, c2, c3, c4 and 395 more")


def test_files_of_any_case_and_behind_links_are_read(tmp_path: Path):
    write(tmp_path / "own/A.PARQUET", [0, 1])
    write(tmp_path / "elsewhere/b.parquet", [0, 1])
    (tmp_path / "own/more").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "own/elsewhere").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "own/circle").symlink_to(tmp_path / "own")
    source, records = opened(parquet(tmp_path / "own"))
    assert len(records) == source.total == 6
    assert source.skipped.entries == [("circle", "circular_link")]


def test_leftovers_of_macos_and_pipes_are_skipped(tmp_path: Path):
    write(tmp_path / "x.parquet", [0, 1])
    (tmp_path / "._x.parquet").write_bytes(b"\x00\x05\x16\x07")
    os.mkfifo(tmp_path / "pipe.parquet")
    (tmp_path / "zero.parquet").symlink_to("/dev/zero")
    source, records = opened(parquet(tmp_path))
    assert len(records) == 2
    assert dict(source.skipped.entries) == {
        "._x.parquet": "hidden",
        "pipe.parquet": "not_a_file",
        "zero.parquet": "not_a_file",
    }


def test_arrow_files_of_save_to_disk_are_named(tmp_path: Path):
    import datasets

    datasets.Dataset.from_dict({"x": [1]}).save_to_disk(str(tmp_path / "saved"))
    message = refusal(parquet(tmp_path))
    assert "holds Arrow files, as save_to_disk of `datasets` writes them" in message
    assert ".to_parquet(" in message


LARGE = {
    "in a dictionary": ({}, 8, {}),
    "packed": ({"use_dictionary": False, "compression": "zstd"}, 0, {"too_large": 8}),
    "as they are": ({"use_dictionary": False, "compression": "none"}, 8, {}),
}


@pytest.mark.parametrize("name", LARGE)
def test_zeros_are_read_one_by_one_or_not_at_all(name: str, tmp_path: Path):
    """A file of a few kB that unpacks to 8 images of 1 MB, together over the limit."""
    options, count, skipped = LARGE[name]
    table = pa.table({"image": [bytes(1_000_000)] * 8, "label": [0, 1] * 4})
    pq.write_table(table, tmp_path / "x.parquet", **options)
    del table
    source, records = opened(parquet(tmp_path), download=SMALL)
    assert len(records) == count
    assert source.skipped.counts == skipped


def test_images_over_the_limit_are_skipped_by_row(tmp_path: Path):
    noise = os.urandom(1_000_001)
    write(tmp_path / "x.parquet", [0, 1, 0], images=[noise, png(0), noise[:-1]])
    write(tmp_path / "y.parquet", [0, 1], images=[noise + noise, noise])
    source, records = opened(parquet(tmp_path), download=SMALL)
    assert [len(record.data) for record in records] == [len(png(0)), 1_000_000]
    rows = [
        f"{tmp_path}/{row}" for row in ("x.parquet: row 0", "y.parquet: row 0", "y.parquet: row 1")
    ]
    assert source.skipped.entries == [(row, "too_large") for row in rows]


BOMB = """
import resource, sys
from pathlib import Path
from helpers.small_data import SETTINGS, opened, parquet

limit = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize() + 200_000_000
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
small = SETTINGS.model_copy(update={"max_image_mb": 32})
source, records = opened(parquet(Path(sys.argv[1])), download=small)
print(len(records), dict(source.skipped.counts))
"""


def test_zeros_of_many_images_cost_no_memory(tmp_path: Path):
    zeros = pa.array([bytes(32_000_000)], pa.large_binary())
    table = pa.table({"image": pa.concat_arrays([zeros] * 8), "label": [0, 1] * 4})
    pq.write_table(table, tmp_path / "x.parquet", use_dictionary=False, compression="zstd")
    del table
    assert (tmp_path / "x.parquet").stat().st_size < 20_000
    done = subprocess.run(
        [sys.executable, "-c", BOMB, tmp_path],
        env=os.environ | {"PYTHONPATH": os.pathsep.join([".", "tests"])},
        capture_output=True,
        text=True,
    )
    assert done.stdout == "0 {'too_large': 8}\n", done.stderr


def test_more_files_than_may_be_open_are_read(tmp_path: Path):
    write(tmp_path / "0.parquet", [0, 1])
    for number in range(1, 100):
        os.link(tmp_path / "0.parquet", tmp_path / f"{number}.parquet")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    used = len(os.listdir("/proc/self/fd"))
    resource.setrlimit(resource.RLIMIT_NOFILE, (used + 20, hard))
    try:
        assert len(opened(parquet(tmp_path))[1]) == 200
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_too_many_open_files_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    write(tmp_path / "x.parquet", [0, 1])

    def full(*arguments: object, **options: object) -> None:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(pq, "ParquetFile", full)
    message = refusal(parquet(tmp_path))
    assert message.endswith("too many files are open; close some, or raise the limit (`ulimit -n`)")


def test_own_files_next_to_images_do_not_matter(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    fill(tmp_path, ["cat/1.png", ".git/x.png"])
    write(tmp_path / "x.parquet", [0, 1])
    with caplog.at_level(logging.WARNING):
        source, records = opened(parquet(tmp_path))
    assert len(records) == 2
    assert not source.skipped.entries
    assert not caplog.messages
