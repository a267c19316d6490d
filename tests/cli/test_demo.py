"""`liquidgen demo`: the page in a real browser, and the Space that it writes."""

import io
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
from helpers.browser import NEEDS_CHROMIUM, browser_page
from helpers.small_model import CLASSES
from PIL import Image
from playwright.sync_api import Page

from liquidgen import LiquidGenPipeline
from liquidgen.cli import main

URL = "Running on local URL:"


@contextmanager
def served(*command: object, cwd: Path) -> Iterator[str]:
    """Start a command that serves a page; yields its address."""
    hidden = ("BROWSER", "DISPLAY", "WAYLAND_DISPLAY")
    environment = {name: value for name, value in os.environ.items() if name not in hidden}
    with subprocess.Popen(
        [sys.executable, *map(str, command)],
        cwd=cwd,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as server:
        try:
            assert server.stdout is not None
            yield next(line for line in server.stdout if URL in line).split()[-1]
        finally:
            os.killpg(server.pid, signal.SIGINT)


def draw(page: Page, count: int) -> list[np.ndarray]:
    """Press the button; returns the images of the gallery as they are sent."""
    page.get_by_role("button", name="Draw").click()
    images = page.locator(".grid-wrap img")
    page.wait_for_function(
        "n => document.querySelectorAll('.grid-wrap img').length == n", arg=count
    )
    addresses = [images.nth(i).get_attribute("src") for i in range(count)]
    files = [page.request.get(str(address)).body() for address in addresses]
    return [np.asarray(Image.open(io.BytesIO(file)).convert("RGB")) for file in files]


@NEEDS_CHROMIUM
def test_page_draws_what_the_pipeline_draws(model: Path, tmp_path: Path):
    expected = LiquidGenPipeline.from_pretrained(model)(
        "marble", num_images=2, num_inference_steps=3, guidance_scale=2.5, seed=7
    ).images
    with (
        served("-m", "liquidgen", "demo", "--model", model, cwd=tmp_path) as address,
        browser_page() as (page, seen),
    ):
        assert urlsplit(address).hostname == "127.0.0.1"
        page.goto(address)
        page.get_by_label("Steps").first.fill("3")
        assert len(draw(page, len(CLASSES))) == len(CLASSES)  # one of each

        page.get_by_label("Class").click()
        page.get_by_role("option", name="marble").click()
        page.get_by_label("Images").first.fill("2")
        page.get_by_label("Guidance scale").first.fill("2.5")
        page.get_by_label("Seed").fill("7")
        found = draw(page, 2)
        assert "marble (7, 1)" in page.inner_text("body")
        for image, pixels in zip(expected, found, strict=True):
            assert np.array_equal(np.asarray(image), pixels)

        page.get_by_text("Model card").click()
        page.get_by_text("license of the images").wait_for()
        assert {urlsplit(one).hostname for one in seen.requests} <= {"127.0.0.1", None, ""}


@NEEDS_CHROMIUM
def test_space_draws_with_its_own_files(unconditional: Path, tmp_path: Path, capsys):
    space = tmp_path / "space"
    with pytest.raises(SystemExit) as ended:
        main(["demo", "--model", str(unconditional), "--space", str(space)])
    assert not ended.value.code
    assert f"a Space in {space}" in capsys.readouterr().out
    names = {
        line.partition(">")[0].partition("<")[0] for line in _lines(space / "requirements.txt")
    }
    assert {"torch", "diffusers", "pillow"} <= names
    assert "liquidgen" not in names
    with served("app.py", cwd=space) as address, browser_page() as (page, _):
        page.goto(address)
        page.get_by_label("Steps").first.fill("1")
        page.get_by_label("Images").first.fill("1")
        assert len(draw(page, 1)) == 1
        assert not page.get_by_label("Class").is_visible()
    loaded = subprocess.run(
        [sys.executable, "-c", "import liquidgen; print(liquidgen.__file__)"],
        cwd=space,
        capture_output=True,
        text=True,
        check=True,
    )
    assert Path(loaded.stdout.strip()) == space / "liquidgen/__init__.py"


def test_space_replaces_no_folder(model: Path, tmp_path: Path):
    with pytest.raises(SystemExit, match=r"^error: .*: already exists; name a new folder"):
        main(["demo", "--model", str(model), "--space", str(tmp_path)])


def test_port_in_use_is_one_line(model: Path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        command = [sys.executable, "-m", "liquidgen", "demo", "--model", model, "--port", port]
        done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("error: --port: ")
    assert str(port) in done.stderr
    assert "Traceback" not in done.stderr


def _lines(path: Path) -> list[str]:
    return path.read_text().splitlines()
