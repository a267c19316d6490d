"""The stand-in hub's HTTP server."""

import threading
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import ThreadingHTTPServer
from pathlib import Path

from helpers.standin.faults import Fault
from helpers.standin.handler import Handler
from helpers.standin.repositories import Repository

LOOPBACK = "127.0.0.1"


@dataclass
class Request:
    """A request of a client.

    Attributes:
        method: Its method.
        path: Its path, unquoted and without the query.
        range: Its Range header.
        token: Token of its authorization.
        bytes: Number of bytes of the answer's body that were sent so far.
    """

    method: str
    path: str
    range: str | None
    token: str | None
    bytes: int = 0


class StandInHub:
    """Answers as the hub does for the repositories that it was given.

    Large files are redirected to another host name, as the hub does with its CDN.
    """

    def __init__(self) -> None:
        self._server = ThreadingHTTPServer((LOOPBACK, 0), Handler)
        self._server.daemon_threads = True
        self._server.hub = self
        self.closing = threading.Event()
        self.port = self._server.server_port
        self.url = f"http://{LOOPBACK}:{self.port}"
        self.cdn = f"http://localhost:{self.port}/cdn"
        self._lock = threading.Lock()
        self.forget()
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def forget(self) -> None:
        """Remove all repositories, faults and remembered requests."""
        self.repositories: dict[tuple[str, str], Repository] = {}
        self.moved: dict[str, str] = {}  # id before -> id now
        self.faults: list[Fault] = []
        self.requests: list[Request] = []

    def close(self) -> None:
        """Stop, also answers that stall."""
        self.closing.set()
        self._server.shutdown()
        self._server.server_close()

    def dataset(self, id: str, folder: Path, revision: str = "main", **facts: object) -> Repository:
        """Serve a folder as a dataset."""
        return self.add("datasets", id, folder, revision, facts)

    def model(self, id: str, folder: Path, revision: str = "main", **facts: object) -> Repository:
        """Serve a folder as a model."""
        return self.add("models", id, folder, revision, facts)

    def add(
        self, type: str, id: str, folder: Path, revision: str, facts: dict[str, object]
    ) -> Repository:
        """Serve a folder under the name of a revision."""
        repository = self.repositories.get((type, id)) or Repository(type, id)
        for name, value in facts.items():
            setattr(repository, name, value)
        self.repositories[type, id] = repository.add(revision, folder)
        return repository

    @contextmanager
    def fault(self, path: str, **effects: object):
        """Add a fault for the duration of a block."""
        fault = Fault(path, **effects)
        self.faults.append(fault)
        try:
            yield fault
        finally:
            self.faults.remove(fault)

    def fault_of(self, method: str, path: str) -> Fault | None:
        """Return the fault of a request, if any."""
        with self._lock:
            for fault in self.faults:
                if fault.matches(method, path):
                    return fault
        return None

    def remember(self, *facts: str | None) -> Request:
        """Remember a request, before the bytes of its answer are counted."""
        request = Request(*facts)
        with self._lock:
            self.requests.append(request)
        return request

    def asked(self, method: str, path: str) -> list[Request]:
        """Return the requests so far of a method whose path contains a string."""
        return [seen for seen in self.requests if seen.method == method and path in seen.path]

    def blob(self, sha256: str) -> bytes | None:
        """Return a large file by its digest, as the CDN has it."""
        for repository in list(self.repositories.values()):
            for revision in repository.revisions.values():
                for blob in revision.files.values():
                    if blob.large and blob.sha256 == sha256:
                        return blob.data
        return None

    def digest_of(self, id: str, name: str) -> str:
        """Return the digest of a dataset's file, in whichever revision."""
        revisions = self.repositories["datasets", id].revisions.values()
        return next(found.files[name].sha256 for found in revisions if name in found.files)
