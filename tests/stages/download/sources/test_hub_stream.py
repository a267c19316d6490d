"""Streams from the hub: a seeded choice, a part of the bytes, and the same end after any cut."""

import errno
import shutil
from contextlib import ExitStack
from itertools import chain, islice
from pathlib import Path

import numpy as np
import pytest
from helpers.checkout import PROJECT, read_params
from helpers.standin import StandInHub, presets

from liquidgen.config.settings import DownloadSettings, HubSettings, validate
from liquidgen.hub import listing
from liquidgen.images.raw import RawDataset, RawWriter
from liquidgen.stages.download.download import download
from liquidgen.stages.download.sources import SOURCES
from liquidgen.stages.download.sources.stream import ROWS, mixed
from liquidgen.utils.errors import UserError

RAW = read_params(PROJECT / "params.yaml")["datasets"]["wikiart_stream"]
FILES, PER_FILE = 6, 200


def block(**changes: object) -> HubSettings:
    small = {"max_images": 300, "stream_buffer": 40}
    return validate(HubSettings, RAW | small | changes)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files with two row groups each."""
    root = tmp_path_factory.mktemp("wikiart")
    return presets.wikiart(root, files=FILES, rows=PER_FILE, group=128)


@pytest.fixture
def served(hub: StandInHub, folder: Path) -> StandInHub:
    hub.dataset(RAW["repo"], folder)
    return hub


def streamed(settings: HubSettings, count: int | None = None) -> list:
    """The first records of a source, or all; the stream is closed as a crash would close it."""
    source = SOURCES["hub"](settings, 0)
    records = [*islice(source.records, count)]
    source.records.close()
    return records


def spool(tmp_path: Path) -> list[Path]:
    return sorted((tmp_path / "hf").rglob("liquidgen/*/*.parquet"))


def test_a_stream_takes_so_many_images_and_a_part_of_the_bytes(served: StandInHub, folder: Path):
    records = streamed(block())
    assert len(records) == 300
    assert len({(record.path, record.label) for record in records}) == 300
    total = sum(path.stat().st_size for path in folder.rglob("*.parquet"))
    brought = sum(request.bytes for request in served.asked("GET", "/cdn/"))
    assert brought < 0.5 * total


def test_a_seed_chooses_the_images(served: StandInHub):
    first = streamed(block())
    assert streamed(block(stream_buffer=40)) == first
    files = {record.path[0] for record in first}
    assert {record.path[0] for record in streamed(block(seed=1))} != files


def test_more_images_continue_fewer(served: StandInHub):
    few, many = streamed(block()), streamed(block(max_images=500))
    assert many[:300] == few


def test_a_stream_without_an_end_takes_everything(served: StandInHub):
    records = streamed(block(max_images=None))
    assert len({record.path for record in records}) == FILES * PER_FILE


@pytest.mark.parametrize("count", [1, 64, 150, 260])
def test_an_interrupted_stream_ends_as_an_uninterrupted_one(
    count: int, served: StandInHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(
        "liquidgen.stages.download.sources.remote.BLOCK", 2**16
    )  # the files are small
    whole = streamed(block())
    alone = sum(request.bytes for request in served.requests)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "other/hf"))
    streamed(block(), count)
    kept = len([*(tmp_path / "other/hf").rglob("liquidgen/*/*.parquet")])
    assert kept * ROWS >= count
    assert streamed(block()) == whole
    # of what the spool has, nothing but the row group of the cut is asked for again
    both = sum(request.bytes for request in served.requests) - alone
    assert both < 1.4 * alone


def test_a_spool_of_another_commit_is_not_used(served: StandInHub, tmp_path: Path, folder: Path):
    first = streamed(block(), 100)
    (tmp_path / "later").mkdir()
    other = presets.wikiart(tmp_path / "later", files=3, rows=PER_FILE, group=50)
    served.dataset(RAW["repo"], other)
    records = streamed(block(), 100)
    assert records != first
    assert {record.path[0] for record in records} <= set("012")


def test_a_second_stream_is_refused_and_leaves_the_running_one_alone(
    served: StandInHub, tmp_path: Path, folder: Path
):
    whole = streamed(block())
    shutil.rmtree(spool(tmp_path)[0].parent)
    running = SOURCES["hub"](block(), 0)
    first = [*islice(running.records, 100)]
    kept = spool(tmp_path)
    served.dataset(RAW["repo"], folder, "before")
    served.dataset(RAW["repo"], presets.wikiart(tmp_path / "later", files=3, rows=PER_FILE))
    with pytest.raises(UserError, match="another process streams the same images"):
        streamed(block(), 100)
    assert spool(tmp_path) == kept
    assert [*first, *running.records] == whole


def test_a_finished_stream_removes_no_spool_that_another_uses(served: StandInHub, tmp_path: Path):
    finished = SOURCES["hub"](block(), 0)
    whole = [*finished.records]
    spool(tmp_path)[-1].unlink()
    later = SOURCES["hub"](block(), 0)
    first = [*islice(later.records, 100)]
    finished.release()
    assert spool(tmp_path)
    assert [*first, *later.records] == whole
    later.release()
    assert not spool(tmp_path)


def test_a_failed_download_does_not_hinder_the_next_one_in_the_same_process(
    served: StandInHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def full(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, "no space left")

    settings = DownloadSettings(max_file_mb=256, split_seed=0)
    with monkeypatch.context() as patch:
        patch.setattr(RawWriter, "add", full)
        with pytest.raises(OSError, match="no space left") as kept:
            download(block(), settings, tmp_path / "raw", num_workers=0)
    download(block(), settings, tmp_path / "raw", num_workers=0)
    assert kept.tb  # a notebook keeps it, too, and all that its frames hold


def test_damage_in_the_spool_costs_what_comes_after_it(served: StandInHub, tmp_path: Path):
    whole = streamed(block())
    spool(tmp_path)[2].write_bytes(b"PAR1 not whole")
    assert streamed(block()) == whole


def test_the_spool_goes_when_the_images_are_stored(served: StandInHub, tmp_path: Path):
    settings = DownloadSettings(max_file_mb=256, split_seed=0)
    streamed(block(), 100)
    assert spool(tmp_path)
    info = download(block(), settings, tmp_path / "raw", num_workers=0)
    assert not spool(tmp_path)
    raw = RawDataset(tmp_path / "raw")
    records = chain.from_iterable(raw.records(split) for split in info.splits)
    assert sorted(record.data for record in records) == sorted(
        record.data for record in streamed(block())
    )
    assert "images in 27 classes of " in info.summary()


def test_a_missing_class_keeps_what_was_streamed(served: StandInHub, tmp_path: Path):
    settings = DownloadSettings(max_file_mb=256, split_seed=0)
    with pytest.raises(UserError, match=r"no image of class .* raise max_images"):
        download(block(max_images=30), settings, tmp_path / "raw", num_workers=0)
    assert spool(tmp_path)


def test_a_hub_that_fails_in_the_middle_keeps_what_came(
    served: StandInHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    whole = streamed(block())
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "other/hf"))
    source = SOURCES["hub"](block(), 0)
    with served.fault("/resolve/", status=403), pytest.raises(UserError, match="refuses"):
        list(source.records)
    assert streamed(block()) == whole


def test_errors_that_pass_cost_a_stream_attempts(
    served: StandInHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    whole = streamed(block())
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "other/hf"))
    passing = ({"status": 503}, {"cut": True, "after": 100})
    with ExitStack() as faults:
        for effect in passing:
            faults.enter_context(served.fault("/cdn/", times=1, **effect))
        assert streamed(block()) == whole
        assert [fault.times for fault in served.faults] == [0, 0]


@pytest.mark.parametrize("effect", [{"empty": True}, {"damaged": True, "after": -2}])
def test_a_file_that_arrives_damaged_is_told_with_what_to_do(served: StandInHub, effect: dict):
    with served.fault("/cdn/", **effect), pytest.raises(UserError) as refused:
        streamed(block())
    message = str(refused.value)
    assert "data/train-" in message
    assert message.endswith("run it again: what has arrived is kept")
    assert "\n" not in message


def test_an_interrupted_stream_needs_no_hub_for_what_it_has(
    served: StandInHub, monkeypatch: pytest.MonkeyPatch, caplog
):
    whole = streamed(block())
    monkeypatch.setattr(listing, "DEADLINE", 0.3)
    with served.fault("", stall=True):
        assert streamed(block()) == whole
    assert "going on with what an earlier run has received" in caplog.text


def test_styles_that_the_files_do_not_name_are_those_of_the_block(hub: StandInHub, tmp_path: Path):
    from datasets import Value

    columns = {"image": presets.images(presets.pictures(54), ""), "style": [*range(27)] * 2}
    presets.write(tmp_path / "served/data/train-0.parquet", columns, {"style": Value("int64")})
    hub.dataset(RAW["repo"], tmp_path / "served")
    source = SOURCES["hub"](block(), 0)
    assert source.classes == tuple(presets.WIKIART_ORDER)
    assert all(record.label == int(record.path[:-4]) % 27 for record in source.records)


def test_files_with_other_classes_are_refused(hub: StandInHub, tmp_path: Path):
    from datasets import ClassLabel

    columns = {"image": presets.images(presets.pictures(8), ""), "mood": [0, 1] * 4}
    for number, names in enumerate((["glad", "sad"], ["sad", "glad"])):
        features = {"mood": ClassLabel(names=names)}
        presets.write(tmp_path / f"served/data/train-{number}.parquet", columns, features)
    hub.dataset(RAW["repo"], tmp_path / "served")
    moods = block(label_column="mood", classes=["glad", "sad"])
    with pytest.raises(UserError) as refused:
        streamed(moods)
    message = str(refused.value)
    assert "label 0 is '" in message
    assert all(f"data/train-{number}.parquet" in message for number in range(2))
    assert "\n" not in message


def test_a_gated_stream_says_where_to_accept(served: StandInHub):
    served.repositories["datasets", RAW["repo"]].readers = {"hf_reader"}
    with pytest.raises(UserError, match=r"accept them at https://huggingface\.co/datasets/huggan"):
        streamed(block())


def test_a_missing_column_is_told_before_any_row(
    served: StandInHub, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("liquidgen.stages.download.sources.remote.BLOCK", 2**16)
    with pytest.raises(UserError, match="no column 'mood'; there are: image, artist, genre, style"):
        streamed(block(label_column="mood"))
    assert sum(request.bytes for request in served.asked("GET", "/cdn/")) < 200_000


def test_mixing_keeps_every_row_and_moves_most():
    rows = [(i,) for i in range(1000)]
    found = [*mixed((row for row in rows), 100, np.random.default_rng(0))]
    assert sorted(found) == rows
    assert np.mean([abs(value - i) for i, (value,) in enumerate(found)]) > 30
    assert (
        max(i - value for i, (value,) in enumerate(found))
        > 100
        > min(i - value for i, (value,) in enumerate(found))
    )
    assert found == [*mixed((row for row in rows), 100, np.random.default_rng(0))]
    # no row leaves more than a buffer early
    assert max(value - i for i, (value,) in enumerate(found)) <= 100
