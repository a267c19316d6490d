"""`dvc plots show`: pictures and a note, not a white page, where there is no network."""

import os
import shutil
from pathlib import Path

import pytest
from dvc.cli import main
from helpers.browser import NEEDS_CHROMIUM, browser_page
from helpers.checkout import PROJECT
from helpers.runs import write_outputs
from ruamel.yaml import YAML

from liquidgen.config.params import load_params


@pytest.fixture(scope="module")
def plots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of the plots that dvc.yaml names."""
    root = tmp_path_factory.mktemp("plots")
    (root / ".dvc/tmp").mkdir(parents=True)
    config = (PROJECT / ".dvc/config").read_text()
    # the folder is no repository of git
    (root / ".dvc/config").write_text(config.replace("[core]", "[core]\n    no_scm = true"))
    shutil.copy(PROJECT / ".dvc/plots.html", root / ".dvc")
    shutil.copy(PROJECT / "params.yaml", root)
    shown = {"plots": YAML(typ="safe").load(PROJECT / "dvc.yaml")["plots"]}
    YAML(typ="safe").dump(shown, root / "dvc.yaml")
    write_outputs(root, load_params(PROJECT / "params.yaml"), "ab" * 16)
    before = Path.cwd()
    os.chdir(root)
    try:
        assert main(["plots", "show"]) == 0
    finally:
        os.chdir(before)
    return root / "dvc_plots/index.html"


def test_plots_are_curves_and_pictures(plots: Path):
    page = plots.read_text()
    assert page.count("vegaEmbed('#") == 2
    assert "validation_loss_t0.75-1.00" in page
    names = [path.stem for path in plots.parent.rglob("*.png")]
    pictures = {name.rpartition("_")[2] for name in names}
    assert pictures == {"grid", "neighbors", "classes"}


@NEEDS_CHROMIUM
def test_page_without_network_says_where_the_curves_are(plots: Path):
    with browser_page() as (page, seen):
        page.route("http*://**", lambda route: route.abort())
        page.goto(plots.as_uri())
        page.wait_for_selector("p.missing")
        assert page.locator("p.missing").count() == 2
        assert "reports/index.html" in page.inner_text("body")
        assert page.locator("img").count()
    assert any(one.startswith("http") for one in seen.requests)  # for the scripts
