"""The page in a real browser: it shows, runs its script, and asks the network for nothing."""

from pathlib import Path

from helpers.browser import NEEDS_CHROMIUM, Seen, browser_page
from helpers.runs import settings

from liquidgen.report.reports import report_workspace

pytestmark = NEEDS_CHROMIUM


def test_page_asks_the_network_for_nothing(workspace: Path, tmp_path: Path):
    report = report_workspace(settings(), workspace)
    outside = tmp_path / "outside.html"
    outside.write_text('<img src="http://example.invalid/picture.png">')
    with browser_page() as (page, seen):
        page.goto(report.as_uri())
        page.wait_for_selector('[role="button"]')  # the script has run
        page.wait_for_load_state("networkidle")
        assert page.locator("script").count() == 1
        assert "alert(" not in page.content().partition("<body>")[0]
        assert _asked(seen) == []
        assert seen.console == []  # neither errors of the script nor of the page's own rule
        page.goto(outside.as_uri())
        assert _asked(seen) == ["http://example.invalid/picture.png"]  # so it would have been seen


def _asked(seen: Seen) -> list[str]:
    """Addresses that a page asked the network for."""
    return [address for address in seen.requests if address.startswith("http")]
