"""The page in a real browser: it shows, runs its script, and asks the network for nothing."""

from pathlib import Path

from helpers.browser import NEEDS_CHROMIUM, browser_page
from helpers.runs import settings

from liquidgen.report.reports import report_workspace

pytestmark = NEEDS_CHROMIUM


def test_page_asks_the_network_for_nothing(workspace: Path, tmp_path: Path):
    report = report_workspace(settings(), workspace)
    outside = tmp_path / "outside.html"
    outside.write_text('<img src="http://127.0.0.1:9/picture.png">')
    with browser_page() as (page, seen):
        page.goto(report.as_uri())
        page.wait_for_selector('[role="button"]')  # the script has run
        page.wait_for_load_state("networkidle")
        assert page.locator("script").count() == 1
        assert [one for one in seen.requests if one.startswith("http")] == []
        assert seen.console == []  # neither errors of the script nor of the page's own rule
        page.goto(outside.as_uri())
        assert seen.requests[-1] == "http://127.0.0.1:9/picture.png"  # it would have been seen
