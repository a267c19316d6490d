"""`make ui`: MLflow in the browser, opened at a table of runs with scores and settings."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import webbrowser
from pathlib import Path

from liquidgen.cli.runs_page import prepare_view
from liquidgen.config.params import load_params, project_root
from liquidgen.tracking.relay import replay
from liquidgen.tracking.store import Store, tracking_uri
from liquidgen.utils.errors import UserError

PORT = 5000
START_PATIENCE = 120.0  # seconds; a server takes 10 to 30


def main() -> None:
    """Serve the runs of this checkout until interrupted.

    Raises UserError where the store cannot be opened, or the server does not start.
    """
    root, experiment = project_root(), load_params().tracking.experiment
    print("starting MLflow ...", flush=True)
    try:
        store = Store(root)
        replay(store, root)
        page = prepare_view(store, experiment)
    except Exception as error:
        reason = " ".join(str(error).split())
        raise UserError(f"MLflow does not open {tracking_uri(root)}: {reason}") from error
    if store.uri.startswith("http"):  # a server that somebody else runs
        _show(f"{store.uri.rstrip('/')}/{page}")
        return
    port = _free_port()
    if port != PORT:
        print(f"port {PORT} is taken, {port} is used instead")
    _serve(store, root, port, f"http://127.0.0.1:{port}/{page}")


def _free_port() -> int:
    for port in (PORT, 0):
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            return probe.getsockname()[1]
    raise UserError("no free port on 127.0.0.1")


def _serve(store: Store, root: Path, port: int, page: str) -> None:
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # or the server would outlive us
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", store.uri]
    command += ["--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    environment = os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with (
        open(root / "work/tracking/server.log", "wb") as log,
        subprocess.Popen(
            command, cwd=root, env=environment, stdout=log, stderr=subprocess.STDOUT
        ) as server,
    ):
        try:
            _wait_until_up(server, port, Path(log.name))
            _show(page)
            print("stop with Ctrl-C", flush=True)
            server.wait()
            raise UserError(f"MLflow's server stopped; it says why in {log.name}")
        finally:
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # another Ctrl-C would leave it running
            server.terminate()
            server.wait()


def _wait_until_up(server: subprocess.Popen, port: int, log: Path) -> None:
    deadline = time.monotonic() + START_PATIENCE
    while server.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", port), timeout=2).close()
            return
        time.sleep(0.3)
    raise UserError(f"MLflow's server did not start; it says why in {log}")


def _show(page: str) -> None:
    """Say where the runs are, and open the page where there is a screen."""
    print(f"table of runs:        {page}")
    print(f"curves and pictures:  {page}&compareRunsMode=CHART")
    print("runs out of sight?    'Model training', at the top left, brings them back", flush=True)
    screens = {"BROWSER", "DISPLAY", "WAYLAND_DISPLAY"} & os.environ.keys()
    if screens or sys.platform in ("darwin", "win32"):  # else a browser for text might start
        webbrowser.open(page)


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        print("\nstopped")
