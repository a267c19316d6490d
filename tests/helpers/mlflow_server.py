"""MLflow's server in a thread, behind a proxy that can answer in its place."""

import os
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from socketserver import ThreadingMixIn
from unittest.mock import patch
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import requests

A_REQUEST = "/api/2.0/mlflow/experiments/search?max_results=1"  # that needs the store
Answer = tuple[str, list[tuple[str, str]], Iterable[bytes]]  # status, headers, body


class _Quiet(WSGIRequestHandler):
    def log_message(self, *arguments: object) -> None:
        """Print nothing."""


class _Threads(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class Proxy:
    """Passes requests on to MLflow's server, except those that `answer` answers.

    Attributes:
        url: Its address.
        answer: From the path of a request to an answer; None: MLflow's own.
    """

    def __init__(self, app: Callable) -> None:
        self._app = app
        self.answer: Callable[[str], Answer | None] = lambda path: None
        self._server = make_server("127.0.0.1", 0, self._call, _Threads, _Quiet)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def _call(self, environ: dict, start_response: Callable) -> Iterable[bytes]:
        answer = self.answer(environ["PATH_INFO"])
        if answer is None:
            return self._app(environ, start_response)
        status, headers, body = answer
        start_response(status, headers)
        return body

    def stop(self) -> None:
        """Stop it."""
        self._server.shutdown()
        self._server.server_close()


@contextmanager
def mlflow_proxy(database: Path, artifacts: Path) -> Iterator[Proxy]:
    """A server of a database that exists."""
    names = {
        "_MLFLOW_SERVER_FILE_STORE": f"sqlite:///{database}",
        "_MLFLOW_SERVER_ARTIFACT_ROOT": "mlflow-artifacts:/",
        "_MLFLOW_SERVER_ARTIFACT_DESTINATION": str(artifacts),
        "_MLFLOW_SERVER_SERVE_ARTIFACTS": "true",
    }
    os.environ |= names
    with warnings.catch_warnings(action="ignore"):  # deprecations between its own dependencies
        import mlflow.server.fastapi_app  # noqa: F401 - or the first request imports it
        from mlflow.server import app

    proxy = Proxy(app)
    with patch.dict(os.environ):  # opening its store, the server makes it this process's own
        requests.get(f"{proxy.url}{A_REQUEST}", timeout=60).raise_for_status()
    try:
        yield proxy
    finally:
        proxy.stop()
        for name in names:
            del os.environ[name]
