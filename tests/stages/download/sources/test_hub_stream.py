"""Streams from the hub: a seeded choice, a part of the bytes, and the same images every time."""

import errno
import time
from collections.abc import Callable
from contextlib import ExitStack
from itertools import chain, islice
from pathlib import Path

import numpy as np
import pytest
from helpers.checkout import PROJECT, read_params
from helpers.standin import StandInHub, presets

import liquidgen.hub.download
from liquidgen.config.settings import DownloadSettings, HubSettings, validate
from liquidgen.images.raw import RawDataset, RawWriter
from liquidgen.stages.download.download import download
from liquidgen.stages.download.sources import SOURCES, remote, rows
from liquidgen.utils.errors import UserError

RAW = {
    "kind": "hub",
    "repo": "huggan/wikiart",
    "revision": "main",
    "files": ["data/train-*.parquet"],
    "image_column": "image",
    "label_column": "style",
    "label_names": presets.WIKIART_ORDER,
    "classes": presets.WIKIART_ORDER,
    "max_images": 300,
    "stream_buffer": 40,
    "seed": 0,
    "holdout_fraction": 0.05,
    "license": "unknown",
}
SETTINGS = DownloadSettings(max_file_mb=256, max_image_mb=256, split_seed=0)
FILES = 6
PER_FILE = 200


def block(**changes: object) -> HubSettings:
    return validate(HubSettings, RAW | changes)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch):
    """Shorten the pauses between attempts."""
    sleep = time.sleep
    monkeypatch.setattr(time, "sleep", lambda seconds: sleep(min(seconds, 0.02)))


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch):
    """Requests on the scale of the small files."""
    monkeypatch.setattr(remote, "BLOCK", 2**16)


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
    """The first records of a source, or all; the stream is closed as a failure would close it."""
    source = SOURCES["hub"](settings, SETTINGS, 0)
    records = [*islice(source.records, count)]
    source.records.close()
    return records


def refusal(ask: Callable[[], object]) -> str:
    with pytest.raises(UserError) as refused:
        ask()
    message = str(refused.value)
    assert "\n" not in message
    return message


def test_stream_fetches_a_part_of_the_bytes(served: StandInHub, folder: Path):
    records = streamed(block())
    assert len(records) == 300
    assert len({(record.path, record.label) for record in records}) == 300
    total = sum(path.stat().st_size for path in folder.rglob("*.parquet"))
    brought = sum(request.bytes for request in served.asked("GET", "/cdn/"))
    assert brought < 0.5 * total


def test_seed_chooses_the_images(served: StandInHub):
    first = streamed(block())
    assert streamed(block()) == first
    files = {record.path[0] for record in first}
    assert {record.path[0] for record in streamed(block(seed=1))} != files


def test_records_do_not_depend_on_the_size_of_requests(
    served: StandInHub, monkeypatch: pytest.MonkeyPatch
):
    whole = streamed(block())
    monkeypatch.setattr(remote, "BLOCK", 2**15)
    monkeypatch.setattr(rows, "ROWS", 7)
    assert streamed(block()) == whole


def test_preset_of_params_streams_the_same(served: StandInHub):
    shipped = read_params(PROJECT / "params.yaml")["datasets"]["wikiart_stream"]
    small = {key: RAW[key] for key in ("max_images", "stream_buffer", "seed")}
    assert streamed(validate(HubSettings, shipped | small)) == streamed(block())


def test_more_images_continue_fewer(served: StandInHub):
    few = streamed(block())
    many = streamed(block(max_images=500))
    assert many[:300] == few


def test_stream_without_a_limit_takes_everything(served: StandInHub):
    records = streamed(block(max_images=None))
    assert len({record.path for record in records}) == FILES * PER_FILE


def test_stream_is_mixed_within_the_buffer(served: StandInHub):
    numbers = [int(record.path[2:7]) for record in streamed(block(), PER_FILE - 40)]
    moved = [abs(number - i) for i, number in enumerate(numbers)]
    assert np.mean(moved) > 10
    assert max(number - i for i, number in enumerate(numbers)) <= 40


@pytest.mark.parametrize("count", [1, 150])
def test_interrupted_stream_starts_over_to_the_same_end(count: int, served: StandInHub):
    whole = streamed(block())
    assert streamed(block(), count) == whole[:count]
    assert streamed(block()) == whole


def test_other_commit_has_other_records(served: StandInHub, tmp_path: Path):
    first = streamed(block(), 100)
    (tmp_path / "later").mkdir()
    other = presets.wikiart(tmp_path / "later", files=3, rows=PER_FILE, group=50)
    served.dataset(RAW["repo"], other)
    records = streamed(block(), 100)
    assert records != first
    assert {record.path[0] for record in records} <= set("012")


def test_failed_download_does_not_hinder_the_next(
    served: StandInHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def full(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, "no space left")

    with monkeypatch.context() as patch:
        patch.setattr(RawWriter, "add", full)
        with pytest.raises(OSError, match="no space left") as kept:
            download(block(), SETTINGS, tmp_path / "raw", num_workers=0)
    download(block(), SETTINGS, tmp_path / "raw", num_workers=0)
    assert kept.tb  # a notebook keeps it, too, and all that its frames hold


def test_stream_becomes_raw_images(served: StandInHub, tmp_path: Path):
    info = download(block(), SETTINGS, tmp_path / "raw", num_workers=0)
    raw = RawDataset(tmp_path / "raw")
    records = chain.from_iterable(raw.records(split) for split in info.splits)
    assert sorted(record.data for record in records) == sorted(
        record.data for record in streamed(block())
    )
    assert "images in 27 classes of " in info.summary()


def test_missing_class_is_told(served: StandInHub, tmp_path: Path):
    with pytest.raises(UserError, match=r"no image of class .* raise max_images"):
        download(block(max_images=30), SETTINGS, tmp_path / "raw", num_workers=0)


@pytest.mark.parametrize(
    ("effect", "rule"),
    [
        ({"status": 403}, "the hub refuses (status 403)"),
        ({"status": 503}, "the hub returned status 503"),
        ({"status": 429, "headers": {"Retry-After": "3600"}}, "(for another 3600 s)"),
        ({"stall": True}, "the hub cannot be reached (timed out)"),
        ({"cut": True, "after": 100}, "the hub cannot be reached ("),
    ],
)
def test_hub_that_fails_in_the_middle_is_told(
    effect: dict, rule: str, served: StandInHub, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DOWNLOAD_TIMEOUT", 0.3)
    whole = streamed(block())
    source = SOURCES["hub"](block(), SETTINGS, 0)
    assert next(source.records) == whole[0]
    with served.fault("/cdn/", **effect):
        assert rule in refusal(lambda: list(source.records))
    assert streamed(block()) == whole


def test_passing_errors_cost_attempts(served: StandInHub):
    whole = streamed(block())
    passing = ({"status": 503}, {"cut": True, "after": 100})
    with ExitStack() as faults:
        for effect in passing:
            faults.enter_context(served.fault("/cdn/", times=1, **effect))
        assert streamed(block()) == whole
        assert [fault.times for fault in served.faults] == [0, 0]


@pytest.mark.parametrize("effect", [{"empty": True}, {"damaged": True, "after": -2}])
def test_file_that_arrives_damaged_is_told(served: StandInHub, effect: dict):
    with served.fault("/cdn/", **effect):
        message = refusal(lambda: streamed(block()))
    assert "data/train-" in message
    assert message.endswith("run it again")


def test_unreachable_hub_is_told(served: StandInHub, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(liquidgen.hub.download, "DEADLINE", 0.3)
    with served.fault("", stall=True):
        assert "cannot be reached" in refusal(lambda: streamed(block()))


def test_label_names_of_the_block_are_used(hub: StandInHub, tmp_path: Path):
    from datasets import Value

    columns = {"image": presets.images(presets.pictures(54), ""), "style": [*range(27)] * 2}
    presets.write(tmp_path / "served/data/train-0.parquet", columns, {"style": Value("int64")})
    hub.dataset(RAW["repo"], tmp_path / "served")
    source = SOURCES["hub"](block(), SETTINGS, 0)
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
    message = refusal(lambda: streamed(moods))
    assert "label 0 is '" in message
    assert all(f"data/train-{number}.parquet" in message for number in range(2))


def test_gated_stream_says_where_to_accept(served: StandInHub, monkeypatch: pytest.MonkeyPatch):
    served.repositories["datasets", RAW["repo"]].readers = {"hf_reader"}
    message = refusal(lambda: streamed(block()))
    assert "accept them at https://huggingface.co/datasets/huggan" in message
    monkeypatch.setenv("HF_TOKEN", "hf_reader")
    assert len(streamed(block())) == 300


def test_missing_column_is_told_before_any_row(served: StandInHub, small_blocks: None):
    message = refusal(lambda: streamed(block(label_column="mood")))
    assert "no column 'mood'; there are: image, artist, genre, style" in message
    assert sum(request.bytes for request in served.asked("GET", "/cdn/")) < 200_000
