"""The stand-in hub answers the real clients as the hub does, and has its faults."""

import time
from collections.abc import Callable
from pathlib import Path

import httpx2
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from huggingface_hub import (
    HfApi,
    constants,
    get_hf_file_metadata,
    hf_hub_download,
    hf_hub_url,
    snapshot_download,
)
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from helpers.standin import StandInHub

DATA = "people/pictures"
API = HfApi()


@pytest.fixture
def served(hub: StandInHub, tmp_path: Path) -> StandInHub:
    """A hub with a dataset of two Parquet files and a card."""
    folder = tmp_path / "served"
    (folder / "full/train").mkdir(parents=True)
    for number in range(2):
        rows = [f"row {number} {i}" for i in range(100)]
        pq.write_table(pa.table({"text": rows}), folder / f"full/train/000{number}.parquet")
    (folder / "README.md").write_text("pictures")
    hub.dataset(DATA, folder, "refs/convert/parquet", license="mit")
    return hub


def fetch(name: str = "full/train/0000.parquet", revision: str = "refs/convert/parquet") -> Path:
    return Path(hf_hub_download(DATA, name, repo_type="dataset", revision=revision))


def test_repo_info_has_commit_and_digests(served: StandInHub):
    info = API.dataset_info(DATA, revision="refs/convert/parquet", files_metadata=True)
    names = [sibling.rfilename for sibling in info.siblings]
    assert names == ["README.md", "full/train/0000.parquet", "full/train/0001.parquet"]
    assert info.siblings[1].lfs.sha256 == served.digest_of(DATA, names[1])
    assert info.siblings[0].lfs is None
    assert info.card_data.license == "mit"
    assert API.dataset_info(DATA, revision=info.sha).sha == info.sha


def test_tree_lists_a_folder_or_everything(served: StandInHub):
    options = {"repo_type": "dataset", "revision": "refs/convert/parquet"}
    top = [entry.path for entry in API.list_repo_tree(DATA, **options)]
    assert top == ["full", "README.md"]
    below = [entry.path for entry in API.list_repo_tree(DATA, "full/train", **options)]
    assert below == ["full/train/0000.parquet", "full/train/0001.parquet"]
    assert len([*API.list_repo_tree(DATA, recursive=True, **options)]) == 5
    (info,) = API.get_paths_info(DATA, ["full/train/0001.parquet", "no"], **options)
    assert info.lfs.sha256 == served.digest_of(DATA, info.path)


def test_files_arrive_whole_and_stay_cached(served: StandInHub, tmp_path: Path):
    path = fetch()
    assert path.read_bytes() == (tmp_path / "served/full/train/0000.parquet").read_bytes()
    assert fetch("README.md").read_text() == "pictures"
    folder = snapshot_download(DATA, repo_type="dataset", revision="refs/convert/parquet")
    served.forget()
    kept = {"repo_type": "dataset", "revision": "refs/convert/parquet", "local_files_only": True}
    assert snapshot_download(DATA, **kept) == folder


def test_token_is_not_sent_to_the_cdn(served: StandInHub, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    fetch()
    assert {request.token for request in served.asked("HEAD", "/resolve/")} == {"hf_secret"}
    assert {request.token for request in served.asked("GET", "/cdn/")} == {None}


def test_datasets_streams_rows(served: StandInHub):
    from datasets import load_dataset

    files = f"hf://datasets/{DATA}@refs%2Fconvert%2Fparquet/full/train/*.parquet"
    rows = load_dataset("parquet", data_files={"train": files}, streaming=True)["train"]
    assert [row["text"] for row in rows][::100] == ["row 0 0", "row 1 0"]


@pytest.mark.filterwarnings("ignore:The .local_dir_use_symlinks")  # diffusers asks for it
def test_diffusers_loads_a_model(hub: StandInHub, tmp_path: Path):
    from diffusers import AutoencoderTiny

    small = {"encoder_block_out_channels": (4, 4), "decoder_block_out_channels": (4, 4)}
    small |= {"num_encoder_blocks": (1, 1), "num_decoder_blocks": (1, 1)}
    model = AutoencoderTiny(**small)
    model.save_pretrained(tmp_path / "served/vae")
    hub.model("people/model", tmp_path / "served")
    loaded = AutoencoderTiny.from_pretrained("people/model", subfolder="vae")
    assert (loaded.encoder.layers[0].weight == model.encoder.layers[0].weight).all()


def test_uploaded_folder_is_downloaded(
    hub: StandInHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    folder = tmp_path / "own"
    (folder / "deep").mkdir(parents=True)
    (folder / "deep/weights.safetensors").write_bytes(bytes(range(256)) * 100)
    API.create_repo("people/new", exist_ok=True)
    API.create_repo("people/new", exist_ok=True)
    API.upload_folder(repo_id="people/new", folder_path=folder)
    path = hf_hub_download("people/new", "deep/weights.safetensors")
    assert Path(path).read_bytes() == (folder / "deep/weights.safetensors").read_bytes()


@pytest.mark.parametrize(
    ("ask", "error"),
    [
        (lambda: fetch("no.parquet"), EntryNotFoundError),
        (lambda: fetch(revision="nowhere"), RevisionNotFoundError),
        (lambda: API.dataset_info("people/none"), RepositoryNotFoundError),
        (lambda: API.dataset_info("people/none", token="hf_x"), RepositoryNotFoundError),
    ],
)
def test_missing_things_are_refused_by_kind(
    ask: Callable[[], object], error: type[Exception], served: StandInHub
):
    with pytest.raises(error):
        ask()


def test_gated_files_need_the_token_of_a_reader(
    served: StandInHub, monkeypatch: pytest.MonkeyPatch
):
    served.repositories["datasets", DATA].readers = {"hf_reader"}
    assert API.dataset_info(DATA, revision="refs/convert/parquet").gated == "auto"
    for token, status in ((None, 401), ("hf_other", 403)):
        monkeypatch.setenv("HF_TOKEN", token) if token else None
        with pytest.raises(GatedRepoError) as refused:
            fetch()
        assert refused.value.response.status_code == status
    monkeypatch.setenv("HF_TOKEN", "hf_reader")
    assert fetch().exists()


def test_renamed_repository_keeps_its_old_name(served: StandInHub):
    served.moved["people/before"] = DATA
    assert API.dataset_info("people/before", revision="refs/convert/parquet").id == DATA
    url = hf_hub_url("people/before", "README.md", repo_type="dataset", revision="main")
    served.dataset(DATA, Path(served.repositories["datasets", DATA].revisions.popitem()[1].folder))
    assert get_hf_file_metadata(url).size == len("pictures")


def test_cut_transfer_is_continued_by_a_range(served: StandInHub, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 50)
    with served.fault("/cdn/", cut=True, after=100, times=1):
        fetch()
    first, second = served.asked("GET", "/cdn/")
    assert (first.bytes, first.range, second.range) == (100, None, "bytes=100-")


def test_faults_come_on_demand(served: StandInHub, tmp_path: Path):
    url = f"{served.url}/datasets/{DATA}/resolve/refs%2Fconvert%2Fparquet/README.md"
    with served.fault("README", status=429, headers={"Retry-After": "7"}, times=1):
        limited = httpx2.get(url)
        assert (limited.status_code, limited.headers["Retry-After"]) == (429, "7")
        assert httpx2.get(url).text == "pictures"
    with served.fault("README", status=503), pytest.raises(HfHubHTTPError, match="503"):
        get_hf_file_metadata(url)
    with served.fault("README", stall=True), pytest.raises(httpx2.ReadTimeout):
        httpx2.get(url, timeout=0.2)
    with served.fault("README", silent=True, after=3), pytest.raises(httpx2.ReadTimeout):
        httpx2.get(url, timeout=0.2)
    with served.fault("README", damaged=True, after=2):
        assert httpx2.get(url).text == "pibtures"
    start = time.monotonic()
    with served.fault("README", drip=0.05, piece=2):
        assert httpx2.get(url).text == "pictures"
    assert time.monotonic() - start > 0.15


def test_cache_of_a_test_is_its_own(hub: StandInHub, tmp_path: Path):
    assert Path(constants.HF_HUB_CACHE) == tmp_path / "hf"
