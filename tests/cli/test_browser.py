"""The page of `liquidgen ui` in a real browser: Chromium without a window."""

import html
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from importlib.metadata import entry_points

import pytest
from helpers.checkout import PROJECT

from liquidgen.cli.ui import APP
from liquidgen.config.params import load_params
from liquidgen.tracking import open_run

BROWSER = next(
    filter(None, map(shutil.which, ["chromium", "chromium-browser", "google-chrome"])), ""
)
QUIET = ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
MILLISECONDS = 30_000  # of the page's own clock
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


def text_of(address: str) -> str:
    """What a page says once it is loaded, as one line."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        command = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", *QUIET]
        command += [f"--user-data-dir={profile}", f"--virtual-time-budget={MILLISECONDS}"]
        command += ["--window-size=1600,2000", "--dump-dom", address]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)
    body = re.sub(r"<(script|style)\b.*?</\1>", " ", done.stdout, flags=re.DOTALL)
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", body)).split())


def test_table_shows_names_scores_and_no_assistant(page: str):
    text = text_of(page)
    positions = [text.index(f" {name} ") for name in NAMES]
    assert len(set(positions)) == len(NAMES)
    columns = ["Run Name", "evaluate/kid", "evaluate/class_accuracy", "train/validation_loss"]
    assert [column for column in columns if column not in text] == []
    assert "0.012346" in text  # and not 0.0123456789
    assert "3 matching runs" in text  # those of evaluate belong to their rows
    assert "shared view" not in text
    assert "Ask questions about your experiments" not in text


def test_charts_begin_with_losses_and_scores(page: str):
    text = text_of(f"{page}?charts")
    titles = ["comparison", "train/validation_loss", "evaluate/kid", "settings that differ"]
    assert [title for title in titles if title not in text] == []
    assert [name for name in NAMES if name not in text] == []
