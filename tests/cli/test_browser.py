"""The page of `liquidgen ui` in a real browser: Chromium without a window."""

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from importlib.metadata import entry_points
from itertools import count
from pathlib import Path
from urllib.parse import quote

import aiohttp
import pytest
from helpers.checkout import PROJECT

from liquidgen.cli.ui import APP
from liquidgen.config.params import load_params
from liquidgen.tracking import open_run

BROWSER = next(
    filter(None, map(shutil.which, ["chromium", "chromium-browser", "google-chrome"])), ""
)
QUIET = ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
SECONDS = 120  # until a page shows what it has
NAMES = ["nano procedural", "nano epochs=24", "nano epochs=24 guidance=2.5"]
pytestmark = [
    pytest.mark.skipif(not BROWSER, reason="no Chromium here: apt install chromium"),
    pytest.mark.skipif(
        not entry_points(group="mlflow.app", name=APP),
        reason="installed before the page was added: pip install -e .",
    ),
]


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of the page of a checkout with three rows."""
    root = tmp_path_factory.mktemp("checkout")
    shutil.copy(PROJECT / "params.yaml", root)
    unset = ("MLFLOW_TRACKING_URI", "BROWSER", "DISPLAY", "WAYLAND_DISPLAY", "DVC_EXP_NAME")
    with pytest.MonkeyPatch.context() as environment:
        for name in unset:
            environment.delenv(name, raising=False)
        params = load_params(PROJECT / "params.yaml").flat()
        for number, name in enumerate(NAMES[:2]):
            with open_run(root, "liquidgen", "train", name=name, params=params) as run:
                run.log_metrics({"validation_loss": 0.7 - 0.1 * number, "num_steps": 30}, 30)
            scales = (1.5, 2.5) if number else (1.5,)
            for scale in scales:
                chosen = params | {"sample.guidance_scale": scale}
                with open_run(
                    root, "liquidgen", "evaluate", name="scores", params=chosen, parent=run.run_id
                ) as child:
                    scores = {"kid": 0.0123456789 + number * scale, "class_accuracy": 0.5}
                    child.log_to_parent(scores)
        with subprocess.Popen(
            [sys.executable, "-m", "liquidgen", "ui"],
            cwd=root,
            env=dict(os.environ),
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        ) as server:
            try:
                lines = iter(server.stdout)
                yield next(line for line in lines if "table of runs" in line).split()[-1]
            finally:
                os.killpg(server.pid, signal.SIGINT)


def text_of(address: str, wanted: list[str]) -> str:
    """What a page shows as soon as it shows all that is wanted, or after a while; as one line."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        command = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", *QUIET]
        command += [f"--user-data-dir={profile}", "--window-size=1600,2000"]
        with subprocess.Popen(
            [*command, "--remote-debugging-port=0"], stderr=subprocess.DEVNULL
        ) as browser:
            try:
                port = Path(profile, "DevToolsActivePort")
                deadline = time.monotonic() + SECONDS
                while not (port.exists() and port.read_text()) and time.monotonic() < deadline:
                    time.sleep(0.1)
                return asyncio.run(_shown(port.read_text().split()[0], address, wanted, deadline))
            finally:
                browser.terminate()


async def _shown(port: str, address: str, wanted: list[str], deadline: float) -> str:
    """Ask the browser for the text of a page until it has what is wanted."""
    new = f"http://127.0.0.1:{port}/json/new?{quote(address, safe='')}"
    ask = {"method": "Runtime.evaluate", "params": {"expression": "document.body.innerText"}}
    async with aiohttp.ClientSession() as session, session.put(new) as answer:
        url = (await answer.json())["webSocketDebuggerUrl"]
        async with session.ws_connect(url, max_msg_size=0) as socket:
            for number in count():
                await socket.send_json(ask | {"id": number})
                reply = await socket.receive_json()
                text = " ".join(str(reply["result"]["result"].get("value")).split())
                if all(one in text for one in wanted) or time.monotonic() > deadline:
                    return text
                await asyncio.sleep(0.5)
    raise AssertionError("count() does not end")


def test_table_shows_names_scores_and_no_assistant(page: str):
    columns = ["Run Name", "evaluate/kid", "evaluate/class_accuracy", "train/validation_loss"]
    score = "0.012346"  # and not 0.0123456789
    count_of_rows = "3 matching runs"  # those of evaluate belong to their rows
    wanted = [*NAMES, *columns, score, count_of_rows]
    text = text_of(page, wanted)
    assert [one for one in wanted if one not in text] == []
    assert text.index(score) < text.index("1.5123")  # the best is on top
    assert "shared view" not in text
    assert "Ask questions about your experiments" not in text


def test_charts_show_losses_scores_and_settings(page: str):
    wanted = [*NAMES, "comparison", "train/validation_loss", "evaluate/kid", "settings that differ"]
    text = text_of(f"{page}?charts", wanted)
    assert [one for one in wanted if one not in text] == []
