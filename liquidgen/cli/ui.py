"""`liquidgen ui`: browse the runs in MLflow, which opens with a table of scores and settings."""

import os
import sys
import webbrowser
from functools import partial
from importlib.metadata import entry_points
from pathlib import Path

from liquidgen.cli.mlflow_view import EXPERIMENT_VARIABLE, PATH, save_view, shared_page
from liquidgen.cli.servers import free_port, started, wait_until_up
from liquidgen.config.params import load_params
from liquidgen.config.paths import project_root
from liquidgen.runtime.extras import OUTDATED, require_extra
from liquidgen.tracking.address import reason, tracking_uri, without_secrets
from liquidgen.tracking.sending import open_store, replay
from liquidgen.tracking.store import Store
from liquidgen.utils.deadline import within
from liquidgen.utils.errors import UserError

APP = "liquidgen"  # entry point of `mlflow_app`
PORT = 5000  # MLflow's default
STORE_TIMEOUT = 60.0  # seconds until the store has answered; a new database takes 10
REPLAY_TIMEOUT = 300.0  # seconds for runs that were recorded while MLflow was down


def run() -> None:
    """Browse the runs in MLflow, until Ctrl-C."""
    try:
        serve()
    except KeyboardInterrupt:
        print("\nstopped")


def serve() -> None:
    """Start MLflow's server and show the page of the runs, until interrupted.

    A server that MLFLOW_TRACKING_URI names is already running: only its page is shown.

    Raises:
        UserError: MLflow is not installed, its store cannot be opened, or its server does not
            start.
    """
    require_extra("pipeline")
    root = project_root()
    experiment = load_params().tracking.experiment
    print("starting MLflow ...", flush=True)
    try:
        store = within(STORE_TIMEOUT, partial(_open, root, experiment))
        _replay(store, root)
        experiment_id = within(STORE_TIMEOUT, partial(save_view, store, experiment))
    except Exception as error:
        where = without_secrets(tracking_uri(root))
        raise UserError(f"MLflow cannot open {where}: {reason(error)}") from error
    if store.uri.startswith("http"):
        _show_shared(without_secrets(store.uri).rstrip("/"), experiment_id)
        return
    _run_server(store, root, free_port(PORT), experiment_id)


def _open(root: Path, experiment: str) -> Store:
    """Return the store, which answers."""
    store = open_store(root)
    store.rows.experiment(experiment)
    return store


def _replay(store: Store, root: Path) -> None:
    """Send what MLflow has not received, which may fail in part: what is there is shown."""
    try:
        within(REPLAY_TIMEOUT, partial(replay, store, root))
    except Exception as error:
        print(f"not all runs could be sent: {reason(error)}", flush=True)


def _run_server(store: Store, root: Path, port: int, experiment_id: str) -> None:
    command = [sys.executable, "-m", "mlflow", "server"]
    command += ["--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    has_app = bool(entry_points(group="mlflow.app", name=APP))
    command += ["--app-name", APP] if has_app else []
    environment = os.environ | {
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_BACKEND_STORE_URI": store.uri,  # all users can read a command line
        EXPERIMENT_VARIABLE: experiment_id,
    }
    with (
        open(root / "work/tracking/server.log", "wb") as log,
        started(command, folder=root, environment=environment, log=log) as server,
    ):
        wait_until_up(server, "127.0.0.1", port, Path(log.name))
        if has_app:
            page = f"http://127.0.0.1:{port}{PATH}"
            _show(page, f"{page}?charts")
        else:
            print(OUTDATED)
            _show_shared(f"http://127.0.0.1:{port}", experiment_id)
        print("stop with Ctrl-C", flush=True)
        server.wait()
        raise UserError(f"MLflow's server stopped; the reason is in {log.name}")


def _show_shared(address: str, experiment_id: str) -> None:
    """Show the view on a server without the page of `mlflow_app`."""
    page = f"{address}/{shared_page(experiment_id)}"
    _show(page, f"{page}&compareRunsMode=CHART")
    print("no runs to see?     choose 'Model training' at the top left", flush=True)


def _show(page: str, charts: str) -> None:
    """Print the addresses, and open the page."""
    print(f"table of runs:      {page}")
    print(f"charts and images:  {charts}", flush=True)
    open_in_browser(page)


def open_in_browser(page: str) -> None:
    """Open a page if there is a display."""
    display = {"BROWSER", "DISPLAY", "WAYLAND_DISPLAY"} & os.environ.keys()
    if display or sys.platform in ("darwin", "win32"):  # otherwise a text browser might start
        webbrowser.open(page)
