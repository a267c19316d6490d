"""Datasets of the hub: the presets, what is recorded of them, and what is refused in one line."""

import io
import re
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path

import pytest
from helpers.checkout import PROJECT, encoded, read_params
from helpers.standin import StandInHub, presets
from huggingface_hub import HfFileSystem
from PIL import Image

from liquidgen.config.settings import DownloadSettings, HubSettings, validate
from liquidgen.hub import listing, transfer
from liquidgen.hub.repository import HubRepo
from liquidgen.hub.snapshot import fetch
from liquidgen.images.raw import RawDataset
from liquidgen.images.raw_info import RawInfo
from liquidgen.stages.download.download import download
from liquidgen.stages.download.sources import SOURCES
from liquidgen.utils.errors import UserError

BLOCKS = {
    name: validate(HubSettings, block)
    for name, block in read_params(PROJECT / "params.yaml")["datasets"].items()
    if block["kind"] == "hub"
}
CONVERTED = "refs/convert/parquet"
# layout of the repository, images, classes
PRESETS: dict[str, tuple[Callable[[Path], Path], int, int | None]] = {
    "paintings": (presets.paintings, 189, 27),
    "paintings_mini": (presets.paintings, 52, None),
    "cartoon": (presets.cartoon, 40, None),
    "flowers": (presets.flowers, 40, None),
    "wikiart_stream": (presets.wikiart, 400, 27),
}
SETTINGS = DownloadSettings(max_file_mb=256, split_seed=0)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch):
    """No waiting between attempts."""
    for module in (listing, transfer):
        monkeypatch.setattr(module, "BACKOFF", (0.01,) * 4)


def preset(name: str, **changes: object) -> HubSettings:
    """A block of params.yaml, streamed ones on the scale of the copy."""
    small = {"max_images": 400, "stream_buffer": 50} if BLOCKS[name].stream_buffer else {}
    return BLOCKS[name].model_copy(update=small | changes)


def serve(hub: StandInHub, name: str, folder: Path) -> HubSettings:
    block = preset(name)
    hub.dataset(block.repo, PRESETS[name][0](folder), block.revision)
    return block


def downloaded(block: HubSettings, folder: Path) -> tuple[RawInfo, list]:
    info = download(block, SETTINGS, folder, num_workers=0)
    raw = RawDataset(folder)
    return info, [*chain.from_iterable(raw.records(split) for split in info.splits)]


def refusal(block: HubSettings, folder: Path) -> str:
    with pytest.raises(UserError) as refused:
        download(block, SETTINGS, folder / "raw", num_workers=0)
    message = str(refused.value)
    assert "\n" not in message
    assert not (folder / "raw").exists()
    return message


def test_every_preset_of_the_hub_is_tried():
    assert set(PRESETS) == set(BLOCKS)


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_becomes_raw_images(name: str, hub: StandInHub, tmp_path: Path):
    block = serve(hub, name, tmp_path / "served")
    info, records = downloaded(block, tmp_path / "raw")
    _, count, classes = PRESETS[name]
    assert len(records) == count
    assert len(info.classes or ()) == (classes or 0)
    assert (
        info.revision == hub.repositories["datasets", block.repo].revisions[block.revision].commit
    )
    assert (info.license, info.refused) == (block.license, {})
    assert block.license in info.summary()
    assert {record.data for record in records} <= set(presets.pictures(300))
    assert Image.open(io.BytesIO(records[0].data)).format == "JPEG"


def test_pictures_of_the_hub_become_latents(hub: StandInHub, tmp_path: Path):
    downloaded(serve(hub, "cartoon", tmp_path / "served"), tmp_path / "raw")
    manifest = encoded(tmp_path / "raw", tmp_path / "latents", 64)
    assert sum(split.count for split in manifest.splits.values()) == 40


def test_both_sources_of_paintings_have_the_same_classes(hub: StandInHub, tmp_path: Path):
    found = {}
    for name in ("paintings", "wikiart_stream"):
        info, records = downloaded(serve(hub, name, tmp_path / name), tmp_path / f"raw-{name}")
        found[name] = info.classes
        order = presets.CARD_ORDER if name == "paintings" else presets.WIKIART_ORDER
        names = [style.replace("Art_Nouveau_Modern", "Art_Nouveau") for style in order]
        if name == "paintings":  # the i-th picture of each split has label i modulo 27
            for record in records:
                number = int(record.path[-9:-4])
                assert info.classes[record.label] == names[number % 27]
        assert sorted(names) == list(info.classes)
    assert found["paintings"] == found["wikiart_stream"] == tuple(presets.WIKIART_ORDER)


def test_the_pictures_of_all_splits_are_used_once(hub: StandInHub, tmp_path: Path):
    _, records = downloaded(serve(hub, "paintings", tmp_path / "served"), tmp_path / "raw")
    splits = [record.path.split("_")[1][:5] for record in records]
    assert {name: splits.count(name) for name in set(splits)} == {
        "train": 108,
        "valid": 54,
        "test0": 27,
    }


def test_max_images_takes_some_of_all_files(hub: StandInHub, tmp_path: Path):
    block = serve(hub, "paintings", tmp_path / "served").model_copy(
        update={"max_images": 90, "label_column": None, "classes": None}
    )
    some = downloaded(block, tmp_path / "one")[1]
    assert len(some) == 90
    assert len({record.path.split("_")[1][:5] for record in some}) == 3
    assert some == downloaded(block, tmp_path / "two")[1]
    other = block.model_copy(update={"seed": 1})
    assert some != downloaded(other, tmp_path / "three")[1]


def test_any_dataset_is_a_block_of_the_same_form(hub: StandInHub, tmp_path: Path):
    from datasets import Value

    files = presets.pictures(12)
    columns = {"image": presets.images(files, ""), "kind": ["cat", "dog", "emu"] * 4}
    presets.write(tmp_path / "served/x/a.parquet", columns, {"kind": Value("string")})
    hub.dataset("me/pets", tmp_path / "served")
    block = preset("cartoon", repo="me/pets", files=["x/*.parquet"], label_column="kind")
    info, records = downloaded(block, tmp_path / "raw")
    assert info.classes == ("cat", "dog", "emu")
    for record in records:
        assert info.classes[record.label] == columns["kind"][files.index(record.data)]


def test_a_gated_dataset_says_where_to_accept_and_reads_the_token(
    hub: StandInHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    block = serve(hub, "cartoon", tmp_path / "served")
    hub.repositories["datasets", block.repo].readers = {"hf_reader"}
    message = refusal(block, tmp_path)
    assert f"accept them at https://huggingface.co/datasets/{block.repo}" in message
    assert "no token is set (HF_TOKEN)" in message
    monkeypatch.setenv("HF_TOKEN", "hf_other")
    assert "the token in use has not" in refusal(block, tmp_path)
    monkeypatch.setenv("HF_TOKEN", "hf_reader")
    assert len(downloaded(block, tmp_path / "raw")[1]) == 40
    assert not any(request.token for request in hub.asked("GET", "/cdn/"))


@pytest.mark.parametrize(
    ("changes", "rules"),
    [
        ({"repo": "nobody/nothing"}, ["nobody/nothing: no such dataset", "correct the name"]),
        ({"revision": "v9"}, ["has no revision 'v9'", "/tree/main lists them"]),
        (
            {"files": ["fuller/*.parquet"]},
            ["no file fits 'fuller/*.parquet'", "full/test/0000", "correct `files` of the block"],
        ),
        ({"image_column": "img"}, ["full/train/0000.parquet: image_column: no column 'img'"]),
        ({"label_column": "style"}, ["no column 'style'; there are: image, image_file_path, la"]),
        ({"classes": ["Realism", "Cubism"]}, ["labels name 'Art_Nouveau_Modern'", "`classes`"]),
    ],
)
def test_a_wrong_block_is_refused(changes: dict, rules: list[str], hub: StandInHub, tmp_path: Path):
    block = serve(hub, "paintings", tmp_path / "served").model_copy(update=changes)
    message = refusal(block, tmp_path)
    for rule in rules:
        assert rule in message
    assert "params.yaml" not in message  # a user of Python has none


def test_wrong_columns_are_told_before_a_long_transfer(
    hub: StandInHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(transfer, "MUCH", 0)
    block = serve(hub, "paintings", tmp_path / "served")
    message = refusal(block.model_copy(update={"label_column": "style"}), tmp_path)
    assert "full/train/0000.parquet: label_column: no column 'style'" in message
    blobs = HubRepo("dataset", block.repo, block.revision).cache / "blobs"
    assert not [*blobs.iterdir()]
    assert len(downloaded(block, tmp_path / "raw")[1]) == 189


@pytest.mark.parametrize(
    ("path", "effect"),
    [
        ("/revision/[0-9a-f]{40}$", {"status": 500, "times": 1}),
        ("/tree/", {"status": 404, "code": "EntryNotFound"}),
        ("/cdn/", {"damaged": True, "after": -2, "times": 1}),
    ],
)
def test_a_look_that_fails_does_not_keep_from_the_transfer(
    path: str, effect: dict, hub: StandInHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(transfer, "MUCH", 0)
    HfFileSystem.clear_instance_cache()  # it remembers what another test asked
    block = serve(hub, "paintings", tmp_path / "served")
    with hub.fault(path, **effect):
        assert len(downloaded(block, tmp_path / "raw")[1]) == 189
        assert any(re.search(path, request.path) for request in hub.requests)


def test_a_repository_with_a_script_alone_is_refused_and_the_script_not_run(
    hub: StandInHub, tmp_path: Path
):
    block = serve(hub, "paintings", tmp_path / "served")
    hub.dataset(block.repo, presets.script_only(tmp_path / "main"), "main")
    message = refusal(block.model_copy(update={"revision": "main"}), tmp_path)
    assert "code from the hub is never run; set `revision: refs/convert/parquet`" in message
    assert not hub.asked("GET", ".py")


def test_labels_without_names_ask_for_them(hub: StandInHub, tmp_path: Path):
    from datasets import Value

    columns = {"image": presets.images(presets.pictures(54), ""), "labels": [*range(27)] * 2}
    presets.write(tmp_path / "served/a.parquet", columns, {"labels": Value("int64")})
    hub.dataset("me/paintings", tmp_path / "served")
    block = preset("paintings", repo="me/paintings", revision="main", files=["*.parquet"])
    assert "set `label_names` of the block" in refusal(block, tmp_path)
    named = block.model_copy(update={"label_names": presets.CARD_ORDER})
    info, records = downloaded(named, tmp_path / "raw")
    for record in records:
        style = presets.CARD_ORDER[int(record.path[:-4]) % 27].removesuffix("_Modern")
        assert info.classes[record.label] == style


def test_a_token_that_the_hub_does_not_know_is_told(
    hub: StandInHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    block = serve(hub, "cartoon", tmp_path / "served")
    monkeypatch.setenv("HF_TOKEN", "hf_old")
    with hub.fault("", status=401, message="Invalid credentials in Authorization header"):
        assert "the hub does not accept HF_TOKEN; unset it or make" in refusal(block, tmp_path)


def test_a_renamed_dataset_is_found(hub: StandInHub, tmp_path: Path):
    block = serve(hub, "cartoon", tmp_path / "served")
    hub.moved["someone/before"] = block.repo
    before = block.model_copy(update={"repo": "someone/before"})
    assert len(downloaded(before, tmp_path / "raw")[1]) == 40


def test_a_limited_rate_says_how_long_and_what_helps(hub: StandInHub, tmp_path: Path):
    block = serve(hub, "cartoon", tmp_path / "served")
    for path in ("/api/", "/cdn/"):
        with hub.fault(path, status=429, headers={"Retry-After": "3600"}):
            message = refusal(block, tmp_path)
        assert "limits the rate of requests (for another 3600 s)" in message
        assert "set HF_TOKEN" in message


def test_a_short_wait_that_the_hub_asks_for_is_waited(hub: StandInHub, tmp_path: Path):
    block = serve(hub, "cartoon", tmp_path / "served")
    with hub.fault("/cdn/", status=429, headers={"Retry-After": "1"}, times=1):
        assert len(downloaded(block, tmp_path / "raw")[1]) == 40


@pytest.mark.parametrize("path", ["/api/", "/resolve/", "/cdn/"])
def test_a_server_error_that_passes_costs_an_attempt(path: str, hub: StandInHub, tmp_path: Path):
    block = serve(hub, "cartoon", tmp_path / "served")
    with hub.fault(path, status=503, times=2, method="GET"):
        assert len(downloaded(block, tmp_path / "raw")[1]) == 40


@pytest.mark.parametrize("path", ["/api/", "/cdn/"])
def test_a_server_error_that_stays_is_told(path: str, hub: StandInHub, tmp_path: Path):
    block = serve(hub, "cartoon", tmp_path / "served")
    with hub.fault(path, status=502):
        assert "the hub is in trouble (status 502); later, run" in refusal(block, tmp_path)


def test_a_hub_that_stalls_is_found_out_in_15_seconds(
    hub: StandInHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    block = serve(hub, "cartoon", tmp_path / "served")
    assert listing.DEADLINE <= 10  # of the 15 that a stage may take to tell
    monkeypatch.setattr(listing, "DEADLINE", 1.5)
    start = time.monotonic()
    with hub.fault("/api/", stall=True):
        message = refusal(block, tmp_path)
    assert "the hub cannot be reached" in message
    assert "check the connection" in message
    assert time.monotonic() - start < 3


def test_a_cut_file_is_continued_where_it_was_cut(hub: StandInHub, tmp_path: Path):
    block = serve(hub, "cartoon", tmp_path / "served")
    with hub.fault("/cdn/", cut=True, after=70_000, times=2):
        downloaded(block, tmp_path / "raw")
    ranges = [request.range for request in hub.asked("GET", "/cdn/")]
    assert ranges == [None, "bytes=70000-", "bytes=140000-"]


def test_what_has_arrived_is_kept_when_a_download_fails(hub: StandInHub, tmp_path: Path):
    block = serve(hub, "cartoon", tmp_path / "served")
    with hub.fault("/cdn/", cut=True, after=70_000, times=1), hub.fault("/cdn/", status=503):
        refusal(block, tmp_path)
    before = len(hub.requests)
    assert len(downloaded(block, tmp_path / "raw")[1]) == 40
    (request,) = [seen for seen in hub.requests[before:] if "/cdn/" in seen.path]
    assert request.range == "bytes=70000-"


def test_a_file_that_stalls_is_continued(
    hub: StandInHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DOWNLOAD_TIMEOUT", 0.5)
    block = serve(hub, "cartoon", tmp_path / "served")
    with hub.fault("/cdn/", silent=True, after=70_000, times=1):
        downloaded(block, tmp_path / "raw")
    assert [request.range for request in hub.asked("GET", "/cdn/")] == [None, "bytes=70000-"]


@pytest.mark.parametrize("links", [True, False])
def test_what_has_arrived_needs_no_more_of_the_hub(
    links: bool, hub: StandInHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def forbidden(*arguments: object, **options: object) -> None:
        raise PermissionError("no links on this disk")

    if not links:
        monkeypatch.setattr("os.symlink", forbidden)
    block = serve(hub, "cartoon", tmp_path / "served")
    info, records = downloaded(block, tmp_path / "raw")
    assert len(hub.asked("GET", "/api/")) == 1
    assert not hub.asked("HEAD", "")
    monkeypatch.setattr(listing, "DEADLINE", 0.3)
    with hub.fault("", stall=True):
        assert downloaded(block, tmp_path / "again") == (info, records)


def test_a_file_that_would_be_outside_of_the_cache_is_refused(
    hub: StandInHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    block = serve(hub, "cartoon", tmp_path / "served")
    revision = hub.repositories["datasets", block.repo].revisions["main"]
    (blob,) = revision.files.values()
    revision.files["data/../../../../../out.parquet"] = blob
    monkeypatch.setattr("huggingface_hub.hf_hub_url", lambda *_, **__: f"{hub.cdn}/{blob.sha256}")
    message = refusal(block.model_copy(update={"files": ["data/*.parquet"]}), tmp_path)
    assert "'data/../../../../../out.parquet' is no name of a file" in message
    assert not [*tmp_path.rglob("out.parquet")]


def test_an_answer_without_content_costs_an_attempt(hub: StandInHub, tmp_path: Path):
    block = serve(hub, "cartoon", tmp_path / "served")
    with hub.fault("/cdn/", empty=True, times=2):
        assert len(downloaded(block, tmp_path / "raw")[1]) == 40


def test_answers_without_content_are_told(hub: StandInHub, tmp_path: Path):
    block = serve(hub, "cartoon", tmp_path / "served")
    with hub.fault("/cdn/", empty=True, times=50):
        assert "cannot be reached (an answer without content)" in refusal(block, tmp_path)
    assert len(hub.asked("GET", "/cdn/")) == 5


def test_an_empty_file_arrives(hub: StandInHub, tmp_path: Path):
    (tmp_path / "served").mkdir()
    (tmp_path / "served/empty.txt").touch()
    hub.dataset("me/nothing", tmp_path / "served")
    snapshot = fetch(HubRepo("dataset", "me/nothing", "main"), ["*.txt"])
    assert (snapshot.folder / "empty.txt").read_bytes() == b""


def test_a_slow_file_arrives(hub: StandInHub, tmp_path: Path):
    block = serve(hub, "cartoon", tmp_path / "served")
    with hub.fault("/cdn/", drip=0.02, piece=20_000):
        assert len(downloaded(block, tmp_path / "raw")[1]) == 40


def test_two_downloads_of_a_file_at_once_bring_it_once(hub: StandInHub, tmp_path: Path):
    block = serve(hub, "cartoon", tmp_path / "served")
    place = HubRepo("dataset", block.repo, block.revision)
    with hub.fault("/cdn/", drip=0.02, piece=20_000), ThreadPoolExecutor(2) as pool:
        found = [*pool.map(lambda _: fetch(place, block.files), range(2))]
    assert found[0] == found[1]
    assert len(hub.asked("GET", "/cdn/")) == 1


def test_damage_on_the_way_is_found_and_fetched_again(hub: StandInHub, tmp_path: Path):
    block = serve(hub, "cartoon", tmp_path / "served")
    with hub.fault("/cdn/", damaged=True, after=5000, times=1):
        _, records = downloaded(block, tmp_path / "raw")
    assert {record.data for record in records} == set(presets.pictures(40))
    assert len(hub.asked("GET", "/cdn/")) == 2


def test_damage_that_repeats_is_told(hub: StandInHub, tmp_path: Path):
    block = serve(hub, "cartoon", tmp_path / "served")
    with hub.fault("/cdn/", damaged=True, after=5000):
        message = refusal(block, tmp_path)
    assert "arrived damaged twice" in message
    assert not [*(tmp_path / "hf").rglob("*.liquidgen")]


def test_a_damaged_copy_in_the_cache_is_fetched_again(hub: StandInHub, tmp_path: Path):
    block = serve(hub, "cartoon", tmp_path / "served")
    first = downloaded(block, tmp_path / "raw")[1]
    (blob,) = [path for path in (tmp_path / "hf").rglob("blobs/*") if len(path.name) == 64]
    blob.write_bytes(blob.read_bytes()[:-1] + b"\0")
    assert downloaded(block, tmp_path / "raw")[1] == first


def test_files_in_the_cache_are_not_fetched_again(hub: StandInHub, tmp_path: Path):
    block = serve(hub, "cartoon", tmp_path / "served")
    first = downloaded(block, tmp_path / "raw")[1]
    hub.requests.clear()
    assert downloaded(block, tmp_path / "raw")[1] == first
    assert not hub.asked("GET", "/cdn/")


def test_a_warm_cache_does_without_the_hub(
    hub: StandInHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog
):
    block = serve(hub, "paintings", tmp_path / "served")
    info, records = downloaded(block, tmp_path / "raw")
    monkeypatch.setattr(listing, "DEADLINE", 0.5)
    with hub.fault("", stall=True):
        assert downloaded(block, tmp_path / "again") == (info, records)
    assert "cannot be reached" in caplog.text
    assert "run it again" not in caplog.text
    assert "going on with the copy in the cache" in caplog.text


def test_a_cache_that_lacks_a_file_does_not_do(
    hub: StandInHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    block = serve(hub, "paintings", tmp_path / "served")
    part = block.model_copy(update={"files": ["full/validation/*.parquet"]})
    downloaded(part, tmp_path / "raw")
    monkeypatch.setattr(listing, "DEADLINE", 0.5)
    with hub.fault("", stall=True):
        assert "cannot be reached" in refusal(block, tmp_path / "other")


def test_a_branch_that_moved_is_downloaded_anew(hub: StandInHub, tmp_path: Path):
    block = serve(hub, "cartoon", tmp_path / "served")
    first = downloaded(block, tmp_path / "raw")[0]
    hub.dataset(block.repo, presets.flowers(tmp_path / "later"))
    second = downloaded(block, tmp_path / "raw")[0]
    assert first.revision != second.revision
    assert first.digest != second.digest


def test_every_kind_of_source_has_settings():
    from liquidgen.config.settings import DATASET_KINDS

    assert set(SOURCES) == set(DATASET_KINDS)
