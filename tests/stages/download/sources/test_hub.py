"""Datasets of the hub: the presets, what is recorded of them, and what is refused in one line."""

import io
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from helpers.checkout import PROJECT, encoded, read_params
from helpers.standin import StandInHub, presets
from PIL import Image

import liquidgen.hub.download
from liquidgen.config.settings import DATASET_KINDS, DownloadSettings, HubSettings, validate
from liquidgen.hub.repository import HubRepo
from liquidgen.images.raw import RawDataset
from liquidgen.images.raw_info import RawInfo
from liquidgen.stages.download.download import download
from liquidgen.stages.download.sources import SOURCES
from liquidgen.stages.download.sources.labels import class_names
from liquidgen.utils.errors import UserError

BLOCKS = {
    name: validate(HubSettings, block)
    for name, block in read_params(PROJECT / "params.yaml")["datasets"].items()
    if block["kind"] == "hub"
}
SETTINGS = DownloadSettings(max_file_mb=256, max_image_mb=256, split_seed=0)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch):
    """Shorten the pauses between attempts."""
    sleep = time.sleep
    monkeypatch.setattr(time, "sleep", lambda seconds: sleep(min(seconds, 0.02)))


def preset(name: str, **changes: object) -> HubSettings:
    """A block of params.yaml, streamed ones on the scale of the copy."""
    small = {"max_images": 400, "stream_buffer": 50} if BLOCKS[name].stream_buffer else {}
    return BLOCKS[name].model_copy(update=small | changes)


def serve(hub: StandInHub, name: str, folder: Path) -> HubSettings:
    """A block whose repository the stand-in hub has."""
    block = preset(name)
    layout = presets.LAYOUTS.get(name)
    files = layout(folder) if layout else presets.of_block(block, folder)
    hub.dataset(block.repo, files, block.revision)
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


@pytest.mark.parametrize("name", BLOCKS)
def test_preset_becomes_raw_images(name: str, hub: StandInHub, tmp_path: Path):
    block = serve(hub, name, tmp_path / "served")
    info, records = downloaded(block, tmp_path / "raw")
    files = {path for pattern in block.files for path in (tmp_path / "served").glob(pattern)}
    rows = sum(pq.read_metadata(path).num_rows for path in files)
    assert len(records) == min(rows, block.max_images or rows)
    if block.label_column is None:
        assert info.classes is None
    elif block.classes is not None:
        assert info.classes == class_names(block.classes)
    revisions = hub.repositories["datasets", block.repo].revisions
    assert info.revision == revisions[block.revision].commit
    assert (info.license, info.refused) == (block.license, {})
    assert block.license in info.summary()
    assert {record.data for record in records} <= set(presets.pictures(300))
    assert Image.open(io.BytesIO(records[0].data)).format == "JPEG"


def test_preset_that_is_new_needs_no_layout(hub: StandInHub, tmp_path: Path):
    block = preset("paintings", repo="me/new", files=["a/*.parquet", "b.parquet"])
    hub.dataset(block.repo, presets.of_block(block, tmp_path / "served"), block.revision)
    info, records = downloaded(block, tmp_path / "raw")
    assert len(records) == 2 * 54
    assert info.classes == class_names(block.classes)


def test_images_become_latents(hub: StandInHub, tmp_path: Path):
    downloaded(serve(hub, "cartoon", tmp_path / "served"), tmp_path / "raw")
    manifest = encoded(tmp_path / "raw", tmp_path / "latents", 64)
    assert sum(split.count for split in manifest.splits.values()) == 40


def test_both_sources_of_paintings_have_equal_classes(hub: StandInHub, tmp_path: Path):
    found = {}
    for name in ("paintings", "wikiart_stream"):
        info, records = downloaded(serve(hub, name, tmp_path / name), tmp_path / f"raw-{name}")
        found[name] = info.classes
        order = presets.CARD_ORDER if name == "paintings" else presets.WIKIART_ORDER
        names = [style.replace("Art_Nouveau_Modern", "Art_Nouveau") for style in order]
        if name == "paintings":  # the i-th image of each split has label i modulo 27
            for record in records:
                number = int(record.path[-9:-4])
                assert info.classes[record.label] == names[number % 27]
        assert sorted(names) == list(info.classes)
    assert found["paintings"] == found["wikiart_stream"] == tuple(presets.WIKIART_ORDER)


def test_images_of_all_splits_are_used_once(hub: StandInHub, tmp_path: Path):
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


def test_text_labels_are_class_names(hub: StandInHub, tmp_path: Path):
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


def test_classes_of_the_block_choose_among_the_labels(hub: StandInHub, tmp_path: Path):
    block = serve(hub, "paintings", tmp_path / "served")
    two = block.model_copy(update={"classes": ["Realism", "Cubism"]})
    info, records = downloaded(two, tmp_path / "raw")
    assert info.classes == ("Realism", "Cubism")
    assert len(records) == 14
    assert info.refused == {"other_class": 175}


def test_class_names_without_images_are_dropped(
    hub: StandInHub, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    from datasets import ClassLabel

    columns = {"image": presets.images(presets.pictures(12), ""), "kind": [0, 2] * 6}
    features = {"kind": ClassLabel(names=["cat", "dog", "emu"])}
    presets.write(tmp_path / "served/x/a.parquet", columns, features)
    hub.dataset("me/pets", tmp_path / "served")
    block = preset("cartoon", repo="me/pets", files=["x/*.parquet"], label_column="kind")
    assert downloaded(block, tmp_path / "raw")[0].classes == ("cat", "emu")
    assert caplog.messages == ["me/pets@main: no images of 'dog': not among the classes"]


def test_file_names_with_special_characters(hub: StandInHub, tmp_path: Path):
    columns = {"image": presets.images(presets.pictures(12), "")}
    for name in ("a [1] é?.parquet", "a 1 é.parquet"):
        presets.write(tmp_path / "served" / name, columns, {})
    hub.dataset("me/odd", tmp_path / "served")
    block = preset("cartoon", repo="me/odd", files=["a [[]*.parquet"])
    assert len(downloaded(block, tmp_path / "raw")[1]) == 12


def test_gated_dataset_names_page_and_reads_token(
    hub: StandInHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    block = serve(hub, "cartoon", tmp_path / "served")
    hub.repositories["datasets", block.repo].readers = {"hf_reader"}
    message = refusal(block, tmp_path)
    assert f"accept them at https://huggingface.co/datasets/{block.repo}" in message
    assert "no token is set (HF_TOKEN)" in message
    monkeypatch.setenv("HF_TOKEN", "hf_other")
    assert "the account of the token in use has not accepted them" in refusal(block, tmp_path)
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
        (
            {"label_column": "image_file_path", "classes": None, "label_names": ["a", "b"]},
            ["label_names: the labels in 'image_file_path' are not numbers", "label_names: null"],
        ),
        (
            {"label_column": "image_file_path", "classes": None},
            [
                "one image only in class",
                " more; ",
                "captions, not classes, set `label_column: null`",
            ],
        ),
        (
            {"classes": ["Realism", "Cubismm"]},
            ["`classes` of the block has 'Cubismm'", "did you mean 'Cubism'?"],
        ),
    ],
)
def test_wrong_block_is_refused(changes: dict, rules: list[str], hub: StandInHub, tmp_path: Path):
    block = serve(hub, "paintings", tmp_path / "served").model_copy(update=changes)
    message = refusal(block, tmp_path)
    for rule in rules:
        assert rule in message
    assert "params.yaml" not in message  # a user of Python has none


def test_wrong_columns_are_told_before_the_download(hub: StandInHub, tmp_path: Path):
    block = serve(hub, "paintings", tmp_path / "served")
    message = refusal(block.model_copy(update={"label_column": "style"}), tmp_path)
    assert "full/train/0000.parquet: label_column: no column 'style'" in message
    assert not [*(tmp_path / "hf").rglob("*.parquet")]
    assert len(downloaded(block, tmp_path / "raw")[1]) == 189


def test_script_is_refused_and_not_run(hub: StandInHub, tmp_path: Path):
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


def test_unknown_token_is_told(hub: StandInHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    block = serve(hub, "cartoon", tmp_path / "served")
    monkeypatch.setenv("HF_TOKEN", "hf_old")
    with hub.fault("", status=401, message="Invalid credentials in Authorization header"):
        assert "the hub does not accept HF_TOKEN; unset it or make" in refusal(block, tmp_path)


def test_renamed_dataset_is_found(hub: StandInHub, tmp_path: Path):
    block = serve(hub, "cartoon", tmp_path / "served")
    hub.moved["someone/before"] = block.repo
    before = block.model_copy(update={"repo": "someone/before"})
    assert len(downloaded(before, tmp_path / "raw")[1]) == 40


@pytest.mark.parametrize("path", ["/api/", "/resolve/", "/cdn/"])
def test_rate_limit_says_how_long_and_what_helps(path: str, hub: StandInHub, tmp_path: Path):
    block = serve(hub, "cartoon", tmp_path / "served")
    with hub.fault(path, status=429, headers={"Retry-After": "3600"}):
        message = refusal(block, tmp_path)
    assert "limits the rate of requests (for another 3600 s)" in message
    assert "set HF_TOKEN" in message


@pytest.mark.parametrize("path", ["/resolve/", "/cdn/"])
def test_short_rate_limit_is_waited_for(path: str, hub: StandInHub, tmp_path: Path):
    block = serve(hub, "cartoon", tmp_path / "served")
    with hub.fault(path, status=429, headers={"Retry-After": "1"}, times=2) as fault:
        assert len(downloaded(block, tmp_path / "raw")[1]) == 40
    assert fault.times == 0


def test_passing_server_error_costs_an_attempt(hub: StandInHub, tmp_path: Path):
    block = serve(hub, "cartoon", tmp_path / "served")
    with hub.fault("/resolve/", status=503, times=2) as fault:
        assert len(downloaded(block, tmp_path / "raw")[1]) == 40
    assert fault.times == 0


@pytest.mark.parametrize("path", ["/api/", "/resolve/", "/cdn/"])
def test_lasting_server_error_is_told(path: str, hub: StandInHub, tmp_path: Path):
    block = serve(hub, "cartoon", tmp_path / "served")
    with hub.fault(path, status=502):
        assert "the hub returned status 502; run it again later" in refusal(block, tmp_path)


def test_stalled_hub_is_told_in_15_seconds(
    hub: StandInHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    block = serve(hub, "cartoon", tmp_path / "served")
    assert liquidgen.hub.download.DEADLINE <= 12  # of the 15 that a stage may take to tell
    monkeypatch.setattr(liquidgen.hub.download, "DEADLINE", 1.5)
    start = time.monotonic()
    with hub.fault("/api/", stall=True):
        message = refusal(block, tmp_path)
    assert "the hub cannot be reached" in message
    assert "check the connection" in message
    assert time.monotonic() - start < 3


@pytest.mark.parametrize("path", ["/resolve/", "/cdn/"])
def test_stall_after_the_look_up_is_told(
    path: str, hub: StandInHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DOWNLOAD_TIMEOUT", 0.1)
    block = serve(hub, "cartoon", tmp_path / "served")
    with hub.fault(path, stall=True):
        assert "the hub cannot be reached (" in refusal(block, tmp_path)


def test_login_page_of_a_network_is_told(hub: StandInHub, tmp_path: Path):
    block = serve(hub, "cartoon", tmp_path / "served")
    with hub.fault("/api/", empty=True):
        assert "cannot be reached (something else answers" in refusal(block, tmp_path)


@pytest.mark.parametrize("effect", [{"cut": True}, {"silent": True}])
def test_cut_transfer_ends_whole(
    effect: dict, hub: StandInHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DOWNLOAD_TIMEOUT", 0.5)
    block = serve(hub, "paintings", tmp_path / "served")
    digest = hub.digest_of(block.repo, "full/validation/0000.parquet")
    with hub.fault(f"/cdn/{digest}", after=20_000, times=2, **effect) as fault:
        assert len(downloaded(block, tmp_path / "raw")[1]) == 189
    assert fault.times == 0


@pytest.mark.parametrize(
    ("effect", "rule"),
    [
        ({"status": 503}, "the hub returned status 503"),
        ({"cut": True, "after": 20_000}, "the hub cannot be reached ("),
        ({"empty": True}, "a transfer failed (Consistency check failed"),
    ],
)
def test_failed_transfer_costs_one_file(effect: dict, rule: str, hub: StandInHub, tmp_path: Path):
    block = serve(hub, "paintings", tmp_path / "served")
    names = {split: f"full/{split}/0000.parquet" for split in ("train", "validation", "test")}
    digests = {split: hub.digest_of(block.repo, name) for split, name in names.items()}
    with hub.fault(f"/cdn/{digests['validation']}", **effect):
        message = refusal(block, tmp_path)
    assert rule in message
    assert message.endswith(("run it again", "run it again later"))
    hub.requests.clear()
    assert len(downloaded(block, tmp_path / "raw")[1]) == 189
    fetched = {request.path.removeprefix("/cdn/") for request in hub.asked("GET", "/cdn/")}
    assert fetched == {digests["validation"], digests["train"]}
    # of the latter the schema alone
    assert all(request.range for request in hub.asked("GET", digests["train"]))


def test_slow_file_arrives(hub: StandInHub, tmp_path: Path):
    block = serve(hub, "cartoon", tmp_path / "served")
    with hub.fault("/cdn/", drip=0.02, piece=20_000):
        assert len(downloaded(block, tmp_path / "raw")[1]) == 40


def test_concurrent_downloads_fetch_a_file_once(hub: StandInHub, tmp_path: Path):
    block = serve(hub, "cartoon", tmp_path / "served")
    repo = HubRepo("dataset", block.repo, block.revision)
    listing = liquidgen.hub.download.look_up(repo)
    names = [name for name in listing.files if name.endswith(".parquet")]

    def fetch(number: int) -> Path:
        return liquidgen.hub.download.download(repo, listing.commit, names)

    with hub.fault("/cdn/", drip=0.02, piece=20_000), ThreadPoolExecutor(2) as pool:
        found = [*pool.map(fetch, range(2))]
    assert found[0] == found[1]
    assert len(hub.asked("GET", "/cdn/")) == 1


@pytest.mark.parametrize("kept", [0, 2000])
def test_damaged_file_in_the_cache_is_told(kept: int, hub: StandInHub, tmp_path: Path):
    block = serve(hub, "paintings", tmp_path / "served")
    downloaded(block, tmp_path / "before")
    (path,) = (tmp_path / "hf").rglob("snapshots/*/full/test/0000.parquet")
    path.resolve().write_bytes(path.read_bytes()[:kept])
    message = refusal(block, tmp_path)
    assert "full/test/0000.parquet: not a whole Parquet file" in message
    assert f"(`hf cache rm dataset/{block.repo}`), then run it again" in message


def test_cached_files_are_not_fetched_again(hub: StandInHub, tmp_path: Path):
    block = serve(hub, "cartoon", tmp_path / "served")
    first = downloaded(block, tmp_path / "raw")[1]
    hub.requests.clear()
    assert downloaded(block, tmp_path / "raw")[1] == first
    assert not hub.asked("GET", "/cdn/")
    assert not hub.asked("HEAD", "")


def test_warm_cache_works_without_the_hub(
    hub: StandInHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog
):
    block = serve(hub, "paintings", tmp_path / "served")
    info, records = downloaded(block, tmp_path / "raw")
    monkeypatch.setattr(liquidgen.hub.download, "DEADLINE", 0.5)
    with hub.fault("", stall=True):
        assert downloaded(block, tmp_path / "again") == (info, records)
    assert "cannot be reached" in caplog.text
    assert "run it again" not in caplog.text
    assert f"using the cached copy of commit {info.revision}" in caplog.text


def test_cache_that_lacks_a_file_does_not_do(
    hub: StandInHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_ETAG_TIMEOUT", 0.3)
    block = serve(hub, "paintings", tmp_path / "served")
    part = block.model_copy(update={"files": ["full/validation/*.parquet"]})
    downloaded(part, tmp_path / "raw")
    monkeypatch.setattr(liquidgen.hub.download, "DEADLINE", 0.5)
    with hub.fault("", stall=True):
        assert "cannot be reached" in refusal(block, tmp_path / "other")


def test_moved_branch_is_downloaded_again(hub: StandInHub, tmp_path: Path):
    block = serve(hub, "cartoon", tmp_path / "served")
    first = downloaded(block, tmp_path / "raw")[0]
    hub.dataset(block.repo, presets.flowers(tmp_path / "later"))
    second = downloaded(block, tmp_path / "raw")[0]
    assert first.revision != second.revision
    assert first.digest != second.digest


def test_every_kind_of_source_has_settings():
    assert set(SOURCES) == set(DATASET_KINDS)
