"""`dvc plots show`: pictures and a note, not a white page, where there is no network."""

import os
import shutil
from pathlib import Path

import pytest
from dvc.cli import main
from helpers.browser import CHROMIUM, dom_of, noting_proxy
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


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here: install it")
def test_page_without_network_says_where_the_curves_are(plots: Path):
    with noting_proxy() as (address, asked):
        dom, _ = dom_of(plots.as_uri(), f"--proxy-server=http://{address}")
    assert asked  # for the scripts, which it did not get
    assert dom.count('<p class="missing">') == 2
    assert "reports/index.html" in dom
    assert "<img" in dom
