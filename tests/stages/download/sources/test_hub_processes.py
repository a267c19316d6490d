"""The stage download with data of the hub: killed, offline, and without a hub."""

import os
import re
import signal
import time
from pathlib import Path

import pytest
from helpers.checkout import Checkout, changed, copy_project
from helpers.standin import StandInHub, presets

CARTOON = "Norod78/cartoon-blip-captions"
LIMIT = 15  # seconds until an unreachable hub is told


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """The project with the cartoons selected, for stages without DVC."""
    checkout = copy_project(tmp_path_factory.mktemp("hub") / "project")
    checkout.write_params(changed(checkout.params, {"dataset": "cartoon"}))
    return checkout


@pytest.fixture
def cartoons(hub: StandInHub, tmp_path: Path) -> StandInHub:
    hub.dataset(CARTOON, presets.cartoon(tmp_path / "served"))
    return hub


def message_of(project: Checkout) -> str:
    done = project.stage("download")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    lines = done.stderr.splitlines()
    (line,) = [line for line in lines if line.startswith("error: ")]
    assert lines[-1] == line
    return line.removeprefix("error: ")


def test_killed_download_runs_again(cartoons: StandInHub, project: Checkout, tmp_path: Path):
    with (
        cartoons.fault("/cdn/", drip=0.05, piece=20_000),
        project.start("python", "-m", "stages.download") as process,
    ):
        while sum(seen.bytes for seen in cartoons.asked("GET", "/cdn/")) < 80_000:
            time.sleep(0.02)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    done = project.stage("download")
    assert done.returncode == 0, done.stderr
    expected = "download: images unlabeled: 4 holdout, 36 train; license CC-BY-NC-SA-4.0"
    assert done.stdout.strip() == f"{expected} in data/raw/cartoon"
    assert re.search(r"\| +[\d.]+kB / +[\d.]+kB", done.stderr)  # huggingface_hub's progress bar


def test_offline_machine_works_from_its_cache(
    cartoons: StandInHub, project: Checkout, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    message = message_of(project)
    assert "HF_HUB_OFFLINE is set, and not all of it is in the cache" in message
    assert "unset it and run it again with a connection" in message
    monkeypatch.delenv("HF_HUB_OFFLINE")
    assert project.stage("download").returncode == 0
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    before = len(cartoons.requests)
    done = project.stage("download")
    assert done.returncode == 0, done.stderr
    assert f"{CARTOON}@main: HF_HUB_OFFLINE is set; using the cached copy of commit" in done.stderr
    assert len(cartoons.requests) == before


@pytest.mark.parametrize("address", ["http://127.0.0.1:9", "http://no-such-host.invalid"])
def test_unreachable_hub_is_told_in_time(
    address: str, hub: StandInHub, project: Checkout, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("HF_ENDPOINT", address)
    start = time.monotonic()
    message = message_of(project)
    assert time.monotonic() - start < LIMIT
    assert message.startswith(f"{address}: the hub cannot be reached (")
    assert "check the connection" in message
