"""Headless Chromium, driven by Playwright: Debian's, because Playwright's own is a download."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

import pytest
from playwright.sync_api import Dialog, Page, TimeoutError, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
CHROMIUM = next(filter(None, map(shutil.which, NAMES)), None)
NEEDS_CHROMIUM = pytest.mark.skipif(
    CHROMIUM is None, reason="no Chromium here: install it (Debian: apt install chromium)"
)
OPTIONS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking"]
OPTIONS += ["--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost"]
MILLISECONDS = 120_000  # until a page shows what it has


@dataclass
class Seen:
    """What a page asked the network for, and what its console and its dialogs said."""

    requests: list[str] = field(default_factory=list)
    console: list[str] = field(default_factory=list)


@contextmanager
def browser_page() -> Iterator[tuple[Page, Seen]]:
    """Open an empty page, and note what it does; addresses outside this machine are not reached."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=OPTIONS)
        page = browser.new_page(viewport={"width": 1600, "height": 2000})
        page.set_default_timeout(MILLISECONDS)
        seen = Seen()
        page.on("request", lambda request: seen.requests.append(request.url))
        page.on("console", lambda message: seen.console.append(message.text))
        page.on("dialog", lambda dialog: _note_dialog(seen, dialog))
        page.on("pageerror", lambda error: seen.console.append(str(error)))
        try:
            yield page, seen
        finally:
            browser.close()


def _note_dialog(seen: Seen, dialog: Dialog) -> None:
    seen.console.append(dialog.message)
    dialog.dismiss()


def wait_for_texts(page: Page, wanted: list[str]) -> str:
    """Wait until a page shows all that is wanted; returns its text as one line."""
    has_all = """wanted => {
        const text = document.body.innerText.replace(/\\s+/g, " ");
        return wanted.every(one => text.includes(one));
    }"""
    with suppress(TimeoutError):
        page.wait_for_function(has_all, arg=wanted)
    text = " ".join(page.inner_text("body").split())
    assert [one for one in wanted if one not in text] == []
    return text
