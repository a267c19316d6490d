"""Headless Chromium, and a proxy that notes what it asks for."""

import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
CHROMIUM = next(filter(None, map(shutil.which, NAMES)), None)
OPTIONS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--virtual-time-budget=5000",
    "--enable-logging=stderr",
)
# hosts that Chromium asks by itself, on an empty page, too
OWN_HOSTS = ("google.com", "update.googleapis.com")


class _Noting(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        host = urlsplit(self.path if "://" in self.path else f"//{self.path}").hostname or ""
        if not host.endswith(OWN_HOSTS):
            self.server.asked.append(self.path)  # type: ignore[attr-defined]
        self.send_error(502)

    do_CONNECT = do_POST = do_GET

    def log_message(self, *arguments: object) -> None:
        """Print nothing."""


@contextmanager
def noting_proxy() -> Iterator[tuple[str, list[str]]]:
    """A proxy that answers nothing; yields its address, and the addresses that it was asked for."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Noting) as server:
        server.asked = []  # type: ignore[attr-defined]
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"127.0.0.1:{server.server_port}", server.asked  # type: ignore[attr-defined]
        finally:
            server.shutdown()


def dom_of(address: str, *options: str) -> tuple[str, str]:
    """Open a page; returns its elements after its script has run, and what Chromium logged."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        command = [str(CHROMIUM), *OPTIONS, f"--user-data-dir={profile}", *options, "--dump-dom"]
        done = subprocess.run(
            [*command, address], capture_output=True, text=True, timeout=120, check=True
        )
    return done.stdout, done.stderr
