"""`liquidgen server`: start MLflow for a team, with passwords, until Ctrl-C."""

import configparser
import contextlib
import os
import secrets
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from liquidgen.cli.team.copy_runs import copy_runs
from liquidgen.cli.ui import wait_until_up
from liquidgen.runtime.extras import require_extra
from liquidgen.tracking.address import reason, without_secrets
from liquidgen.utils.errors import UserError

LOOPBACK = "127.0.0.1"
CONNECT_TIMEOUT = 10  # seconds
ADMIN = "admin"
PASSWORD_VARIABLE = "MLFLOW_AUTH_ADMIN_PASSWORD"

Folder = Annotated[Path, Argument(help="Of artifacts, keys and the server's log; made if missing.")]
Database = Annotated[
    str,
    Option(
        envvar="MLFLOW_BACKEND_STORE_URI",
        help="postgresql://user@host/name. Pass it in the variable if it has a password.",
    ),
]
Host = Annotated[str, Option(help="Address to listen at; anything else than loopback is public.")]
Port = Annotated[int, Option(min=1, max=65535)]
CopyFrom = Annotated[
    Path | None, Option(help="mlflow.db of a checkout, whose runs an empty database gets first.")
]


def run(
    folder: Folder,
    database: Database,
    host: Host = LOOPBACK,
    port: Port = 5000,
    copy_from: CopyFrom = None,
) -> None:
    """Start MLflow for a team: users with passwords, runs in PostgreSQL; until Ctrl-C."""
    require_extra("team")
    with contextlib.suppress(KeyboardInterrupt):
        serve(folder.resolve(), database, host, port, copy_from)
    print("\nstopped")


def serve(folder: Path, database: str, host: str, port: int, copy_from: Path | None) -> None:
    """Start the server, and wait for its end.

    Args:
        folder: Folder of artifacts, keys and the log.
        database: Address of the PostgreSQL database.
        host: Address to listen at.
        port: Port to listen at.
        copy_from: Database of SQLite whose runs are copied first.

    Raises:
        UserError: The database cannot be reached, has runs already and cannot take others, the
            port is in use, or the server does not start.
    """
    database = _with_driver(database)
    _check_database(database)
    _check_port(host, port)
    folder.mkdir(parents=True, exist_ok=True)
    artifacts = folder / "artifacts"
    if copy_from is not None:
        count = copy_runs(copy_from, database, artifacts)
        print(f"copied {count} runs of {copy_from}", flush=True)
    environment = os.environ | {
        "MLFLOW_BACKEND_STORE_URI": database,  # all users can read a command line
        "MLFLOW_AUTH_CONFIG_PATH": str(_write_config(folder, database)),
        "MLFLOW_FLASK_SERVER_SECRET_KEY": _kept_secret(folder / "secret_key"),
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    }
    if PASSWORD_VARIABLE not in environment:
        environment[PASSWORD_VARIABLE] = _kept_secret(folder / "admin_password")
    command = [sys.executable, "-m", "mlflow", "server", "--app-name", "basic-auth"]
    command += ["--host", host, "--port", str(port), "--workers", "2"]
    command += ["--artifacts-destination", artifacts.as_uri()]
    names = {"localhost", LOOPBACK, host, socket.gethostname(), socket.getfqdn()}
    command += ["--allowed-hosts", ",".join(f"{name}:{port}" for name in sorted(names))]
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # also ends the server
    print("starting MLflow ...", flush=True)
    with (
        open(folder / "server.log", "ab", opener=_private) as log,
        subprocess.Popen(
            command, cwd=folder, env=environment, stdout=log, stderr=subprocess.STDOUT
        ) as server,
    ):
        try:
            wait_until_up(server, host, port, Path(log.name))
            _introduce(folder, host, port)
            server.wait()
            raise UserError(f"MLflow's server stopped; the reason is in {log.name}")
        finally:
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # a second Ctrl-C must not leave it
            server.terminate()
            server.wait()


def _with_driver(database: str) -> str:
    """Name the driver that the extra brings, because SQLAlchemy's default depends on its version.

    Raises:
        UserError: The address is not of PostgreSQL.
    """
    scheme, separator, rest = database.partition("://")
    if not separator or scheme.partition("+")[0] not in ("postgresql", "postgres"):
        raise UserError("--database: must be postgresql://user@host/name; SQLite is for one user")
    return f"postgresql+psycopg://{rest}"


def _check_database(database: str) -> None:
    from sqlalchemy import create_engine

    engine = create_engine(database, connect_args={"connect_timeout": CONNECT_TIMEOUT})
    try:
        engine.connect().close()
    except Exception as error:
        password = engine.url.password or ""
        said = reason(str(error.__cause__ or error).replace(password or "\0", "***"))
        raise UserError(f"{without_secrets(database)}: cannot be opened: {said}") from None
    finally:
        engine.dispose()


def _check_port(host: str, port: int) -> None:
    try:
        with socket.create_server((host, port)):
            return
    except OSError as error:
        raise UserError(f"{host}:{port}: {error.strerror or error}; give another --port") from None


def _write_config(folder: Path, database: str) -> Path:
    """Write the settings of MLflow's passwords, which are kept in the same database."""
    config = configparser.ConfigParser(interpolation=None)
    # each user goes on with experiments that another one created; MLflow's own default is READ
    config["mlflow"] = {
        "default_permission": "EDIT",
        "database_uri": database.replace("%", "%%"),  # MLflow reads it with interpolation
        "admin_username": ADMIN,
    }
    path = folder / "auth.ini"
    with open(path, "w", opener=_private) as file:
        config.write(file)
    return path


def _kept_secret(path: Path) -> str:
    """Return the secret of a file that only its owner can read; a new one if there is no file."""
    if not path.exists():
        with open(path, "w", opener=_private) as file:
            file.write(secrets.token_urlsafe(24))
    return path.read_text()


def _private(path: str, flags: int) -> int:
    """Open a file that only its owner can read."""
    return os.open(path, flags, 0o600)


def _introduce(folder: Path, host: str, port: int) -> None:
    """Print how to reach the server."""
    address = f"http://{host}:{port}"
    known = PASSWORD_VARIABLE in os.environ
    where = f"as {PASSWORD_VARIABLE} was at the first start" if known else folder / "admin_password"
    print(f"runs:           {address}")
    print(f"user, password: {ADMIN}, {where}")
    print(f"more users:     {address}/signup, as {ADMIN}")
    print(f"for a training: export MLFLOW_TRACKING_URI={address}")
    print("                export MLFLOW_TRACKING_USERNAME=... MLFLOW_TRACKING_PASSWORD=...")
    if host not in (LOOPBACK, "localhost", "::1"):
        print("passwords are sent as they are: put a proxy with TLS in front of it")
    print("stop with Ctrl-C", flush=True)
