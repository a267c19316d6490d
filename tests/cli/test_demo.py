"""`liquidgen demo`: the page in a real browser, and the Space that it writes."""

import io
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
from helpers.browser import NEEDS_CHROMIUM, browser_page
from helpers.pipelines import load
from helpers.servers import listening, status
from helpers.small_model import CLASSES
from packaging.requirements import Requirement
from PIL import Image
from playwright.sync_api import Page

from liquidgen.cli import main

ADDRESS = re.compile(r"http://[\w.:]+")
SECONDS = 120  # until a server is up
HIDDEN = ("BROWSER", "DISPLAY", "WAYLAND_DISPLAY", "PYTHONUNBUFFERED")
# an address that nothing answers: requests to this machine must not go there
PROXY = dict.fromkeys(("HTTP_PROXY", "http_proxy"), "http://127.0.0.1:9")


@contextmanager
def served(cwd: Path, *command: object, **changes: str) -> Iterator[tuple[str, subprocess.Popen]]:
    """Start a command that serves a page; yields its address and the process."""
    environment = {name: value for name, value in os.environ.items() if name not in HIDDEN}
    with subprocess.Popen(
        [sys.executable, *map(str, command)],
        cwd=cwd,
        env=environment | {"GRADIO_TEMP_DIR": str(cwd / "drawn")} | changes,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as server:
        killer = threading.Timer(SECONDS, server.kill)  # ends the reading, too
        killer.start()
        try:
            assert server.stdout is not None
            yield next(found[0] for found in map(ADDRESS.search, server.stdout) if found), server
        finally:
            killer.cancel()
            with suppress(ProcessLookupError):
                os.killpg(server.pid, signal.SIGKILL)


def draw(page: Page, count: int) -> list[np.ndarray]:
    """Press the button; returns the images of the gallery, of which there must be so many."""
    page.get_by_role("button", name="Draw").click()
    images = page.locator(".grid-wrap img")
    page.wait_for_function(
        "n => document.querySelectorAll('.grid-wrap img').length == n", arg=count
    )
    addresses = [image.get_attribute("src") for image in images.all()]
    files = [page.request.get(str(address)).body() for address in addresses]
    return [np.asarray(Image.open(io.BytesIO(file)).convert("RGB")) for file in files]


def check_equal(images: list[Image.Image], drawn: list[np.ndarray]) -> None:
    assert len(images) == len(drawn)
    assert all(np.array_equal(np.asarray(a), b) for a, b in zip(images, drawn, strict=True))


@NEEDS_CHROMIUM
def test_page_draws_what_the_pipeline_draws(model: Path, tmp_path: Path):
    pipe = load(model)
    command = ("-m", "liquidgen", "demo", "--model", model)
    with served(tmp_path, *command, **PROXY) as (address, server), browser_page() as (page, seen):
        page.goto(address)
        page.get_by_label("Steps").first.fill("3")
        check_equal(pipe(num_inference_steps=3).images, draw(page, len(CLASSES)))

        page.get_by_label("Class").click()
        page.get_by_role("option", name="marble").click()
        page.get_by_label("Images").first.fill("2")
        page.get_by_label("Guidance scale").first.fill("2.5")
        page.get_by_label("Seed").fill("7")
        options = {"num_images": 2, "num_inference_steps": 3, "guidance_scale": 2.5, "seed": 7}
        check_equal(pipe("marble", **options).images, draw(page, 2))
        assert "1 marble" in page.inner_text("body")

        page.get_by_label("Seed").fill("")
        page.get_by_role("button", name="Draw").click()
        page.get_by_text("seed: is empty; give a whole number").wait_for()
        page.get_by_text("Model card").click()
        page.get_by_text("license of the images").wait_for()
        assert {urlsplit(one).hostname for one in seen.requests} <= {"127.0.0.1", None, ""}

        port = urlsplit(address).port or 0
        assert status(address, Host="attacker.example") == 400
        assert status(address, Host=f"127.0.0.1:{port}") == 200
        assert sys.platform != "linux" or listening(port) == {"127.0.0.1"}
        os.killpg(server.pid, signal.SIGINT)
        assert server.wait(timeout=60) == 0


@NEEDS_CHROMIUM
def test_space_draws_with_its_own_files(unconditional: Path, tmp_path: Path, capsys):
    space = tmp_path / "a space"
    with pytest.raises(SystemExit) as ended:
        main(["demo", "--model", str(unconditional), "--space", str(space)])
    assert not ended.value.code
    assert f"hf upload you/name '{space}' ." in capsys.readouterr().out
    requirements = map(Requirement, (space / "requirements.txt").read_text().splitlines())
    names = {one.name for one in requirements}
    assert {"torch", "diffusers", "pillow", "gradio"} <= names
    assert "liquidgen" not in names
    assert "Copyright" in (space / "LICENSE").read_text()
    found = {path.name for path in space.iterdir()}
    assert found == {"app.py", "Dockerfile", "LICENSE", "README.md", "liquidgen", "model"} | {
        "requirements.txt"
    }
    # the page says where the code is from
    told = "import liquidgen, pathlib; pathlib.Path('from.txt').write_text(liquidgen.__file__)\n"
    app = space / "app.py"
    app.write_text(told + app.read_text())
    unbuffered = {"PYTHONUNBUFFERED": "1"}  # Gradio's own line is not flushed
    with served(space, "app.py", **unbuffered) as (address, _), browser_page() as (page, _):
        page.goto(address)
        page.get_by_label("Steps").first.fill("1")
        page.get_by_label("Images").first.fill("2")
        images = load(unconditional)(num_images=2, num_inference_steps=1).images
        check_equal(images, draw(page, 2))
        assert not page.get_by_label("Class").is_visible()
    assert (space / "from.txt").read_text() == str(space / "liquidgen/__init__.py")


def test_space_replaces_no_folder(model: Path, tmp_path: Path):
    with pytest.raises(SystemExit, match=r"^error: .*: already exists; name a new folder"):
        main(["demo", "--model", str(model), "--space", str(tmp_path)])
