"""The page of `liquidgen ui` in a real browser: Chromium without a window."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import entry_points

import pytest
from helpers.browser import NEEDS_CHROMIUM, browser_page, wait_for_texts
from helpers.checkout import PROJECT
from PIL import Image

from liquidgen.cli.ui import APP
from liquidgen.config.params import load_params
from liquidgen.tracking import open_run

NAMES = ["nano procedural", "nano epochs=24", "nano epochs=24 guidance=2.5"]
SIZE = (40, 24)  # of the samples, px
pytestmark = [
    NEEDS_CHROMIUM,
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
            params |= {"train.num_epochs": 12 * (number + 1)}
            with open_run(root, "liquidgen", "train", name=name, params=params) as run:
                for step in (10, 20, 30):
                    run.log_metrics({"validation_loss": 1 - 0.1 * number - step / 100}, step)
            scales = (1.5, 2.5) if number else (1.5,)
            for scale in scales:
                chosen = params | {"sample.guidance_scale": scale}
                with open_run(
                    root, "liquidgen", "evaluate", name="scores", params=chosen, parent=run.run_id
                ) as child:
                    scores = {"kid": 0.0123456789 + number * scale, "class_accuracy": 0.5}
                    child.log_to_parent(scores)
                    child.log_image(Image.new("RGB", SIZE, "teal"), "samples", 0, on_parent=True)
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


def test_table_shows_names_scores_and_no_assistant(page: str):
    columns = ["Run Name", "evaluate/kid", "evaluate/class_accuracy", "train/validation_loss"]
    score = "0.012346"  # and not 0.0123456789
    count_of_rows = "3 matching runs"  # those of evaluate belong to their rows
    wanted = [*NAMES, *columns, score, count_of_rows]
    with browser_page() as (shown, _):
        shown.goto(page)
        text = wait_for_texts(shown, wanted)
    assert text.index(score) < text.index("1.5123")  # the best is on top
    assert "shared view" not in text
    assert "Ask questions about your experiments" not in text


def test_charts_show_losses_scores_and_settings(page: str):
    wanted = [*NAMES, "comparison", "train/validation_loss", "evaluate/kid", "settings that differ"]
    with browser_page() as (shown, _):
        shown.goto(f"{page}?charts")
        wait_for_texts(shown, wanted)


def test_three_selected_runs_are_compared(page: str):
    with browser_page() as (shown, _):
        shown.goto(page)
        wait_for_texts(shown, NAMES)
        boxes = shown.get_by_role("checkbox", name="toggle row selection")
        assert boxes.count() == len(NAMES)
        for box in boxes.all():
            box.click()
        shown.get_by_role("button", name="Compare").click()
        # the axes of its first plot are what differs, and the loss
        axes = ["Parameters: sample.guidance_scale train.num_epochs"]
        axes += ["Metrics: train/validation_loss"]
        wait_for_texts(shown, ["Comparing 3 Runs", *NAMES, *axes])


def test_run_shows_its_samples_and_its_curve(page: str):
    with browser_page() as (shown, _):
        shown.goto(page)
        shown.get_by_role("link", name=NAMES[1], exact=True).click()
        shown.wait_for_function(
            "size => [...document.images].some("
            "one => one.naturalWidth === size[0] && one.naturalHeight === size[1])",
            arg=SIZE,
        )
        shown.get_by_role("tab", name="Model metrics").click()
        wait_for_texts(shown, ["train (1)", "validation_loss"])
