"""`make ui`: MLflow in the browser, opened at a table of runs with scores and settings."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

from liquidgen.config import load_params, project_root
from liquidgen.errors import UserError
from liquidgen.tracking.relay import replay
from liquidgen.tracking.store import Store

PORT = 5000
START_PATIENCE = 120.0  # seconds; a server takes 10 to 30
VIEW = "liquidgen"
# of the table: what a training run scored, and the settings that are most often compared
COLUMNS = [
    "metrics.`evaluate/fd`",
    "metrics.`evaluate/kid`",
    "metrics.`evaluate/class_accuracy`",
    "metrics.`train/validation_loss`",
    "params.`dataset`",
    "params.`image_size`",
    "params.`model`",
    "params.`train.learning_rate`",
    "params.`train.num_epochs`",
    "tags.`sample.guidance_scale`",
]
PICTURES = ["samples", "preview"]  # keys of pictures that the chart page shows large


def main() -> None:
    """Serve the runs of this checkout until interrupted.

    Raises UserError where the store cannot be opened, or the server does not start.
    """
    root, experiment = project_root(), load_params().tracking.experiment
    try:
        store = Store(root)
        replay(store, root)
        page = prepare_view(store, experiment)
    except Exception as error:
        raise UserError(f"MLflow does not open its store: {error}") from error
    if store.uri.startswith("http"):
        print(f"runs are recorded at {store.uri}; open {store.uri.rstrip('/')}/{page}")
        return
    port = _free_port()
    if port != PORT:
        print(f"port {PORT} is taken, {port} is used instead")
    _serve(store, root, port, f"http://127.0.0.1:{port}/{page}")


def prepare_view(store: Store, experiment: str) -> str:
    """Make sure that the experiments exist, choose what the page shows; returns the page's path."""
    store.experiment(f"{experiment}-data")
    found = store.experiment(experiment)
    store.client.set_experiment_tag(found, f"mlflow.sharedViewState.{VIEW}", json.dumps(_view()))
    # MLflow opens experiments in a view for language models, which hides runs, unless told so
    return f"#/experiments/{found}/runs?workflowType=machine_learning&viewStateShareKey={VIEW}"


def _view() -> dict:
    """State of MLflow's page; it adds a chart for each metric by itself."""
    chart = {
        "type": "IMAGE",
        "metricSectionId": "pictures",
        "runsCountToCompare": 10,
        "isGenerated": True,
        "step": 0,
        "showRunParams": False,  # else they push the picture out of sight
    }
    section = {
        "uuid": "pictures",
        "name": "pictures",
        "display": True,
        "isGenerated": True,
        "columns": len(PICTURES),
        "cardHeight": 560,
    }
    return {
        "selectedColumns": COLUMNS,
        "compareRunCharts": [chart | {"uuid": key, "imageKeys": [key]} for key in PICTURES],
        "compareRunSections": [section],
    }


def _free_port() -> int:
    for port in (PORT, 0):
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            return probe.getsockname()[1]
    raise UserError("no free port on 127.0.0.1")


def _serve(store: Store, root: Path, port: int, page: str) -> None:
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # or the server would outlive us
    print("starting MLflow ...", flush=True)
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
            print(f"table of runs:        {page}")
            print(f"curves and pictures:  {page}&compareRunsMode=CHART")
            print("stop with Ctrl-C", flush=True)
            server.wait()
        except KeyboardInterrupt:
            print("\nstopped")
        finally:
            server.terminate()


def _wait_until_up(server: subprocess.Popen, port: int, log: Path) -> None:
    deadline = time.monotonic() + START_PATIENCE
    while server.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2).close()
            return
        time.sleep(0.3)
    raise UserError(f"MLflow's server did not start; it says why in {log}")


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(f"error: {error}")
