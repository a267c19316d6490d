"""The page in a real browser: it shows, runs its script, and asks the network for nothing."""

from pathlib import Path

import pytest
from helpers.browser import CHROMIUM, dom_of, noting_proxy
from helpers.runs import settings

from liquidgen.report.reports import report_workspace

pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="no Chromium here: install it (Debian: apt install chromium)"
)


def test_page_asks_the_network_for_nothing(workspace: Path, tmp_path: Path):
    page = report_workspace(settings(), workspace)
    outside = tmp_path / "outside.html"
    outside.write_text('<img src="http://example.invalid/picture.png">')
    with noting_proxy() as (address, asked):
        proxy = (f"--proxy-server=http://{address}", "--proxy-bypass-list=<-loopback>")
        dom, log = dom_of(page.as_uri(), *proxy)
        assert asked == []
        dom_of(outside.as_uri(), *proxy)
        assert asked == ["http://example.invalid/picture.png"]  # so it would have been seen
    assert "CONSOLE" not in log  # neither errors of the script nor of the page's own rule
    assert dom.count("<script>") == 1
    assert "alert(&quot;" not in dom.partition("<body>")[0]
    assert 'role="button"' in dom  # the script has run
