"""`liquidgen server`: start MLflow for a team, with passwords, until Ctrl-C."""

import configparser
import contextlib
import os
import secrets
import socket
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from urllib.parse import urlsplit

from typer import Argument, Option

from liquidgen.cli.servers import started, wait_until_up
from liquidgen.cli.team.copy_runs import copy_runs
from liquidgen.runtime.extras import require_extra
from liquidgen.tracking.address import reason, without_secrets
from liquidgen.tracking.store import prepare_mlflow
from liquidgen.utils.errors import UserError

if TYPE_CHECKING:
    from sqlalchemy import Engine

LOOPBACK = ("127.0.0.1", "localhost")
EVERY_ADDRESS = "0.0.0.0"
CONNECT_TIMEOUT = 10  # seconds
ADMIN = "admin"
DATABASE_VARIABLE = "MLFLOW_BACKEND_STORE_URI"
PASSWORD_VARIABLE = "MLFLOW_AUTH_ADMIN_PASSWORD"
SCHEMES = ("postgresql", "postgres")

Folder = Annotated[Path, Argument(help="Of artifacts, keys and the server's log; made if missing.")]
Host = Annotated[str, Option(help="Address to listen at; anything else than loopback is public.")]
Port = Annotated[int, Option(min=1, max=65535, help="Port to listen at.")]
Address = Annotated[
    str | None,
    Option(help="How others reach it, such as https://mlflow.example.org; default: host and port."),
]
CopyFrom = Annotated[
    Path | None, Option(help="mlflow.db of a checkout, whose runs an empty database gets first.")
]


def run(
    folder: Folder,
    host: Host = LOOPBACK[0],
    port: Port = 5000,
    address: Address = None,
    copy_from: CopyFrom = None,
) -> None:
    """Start MLflow for a team: users with passwords, runs in PostgreSQL; until Ctrl-C."""
    require_extra("team")
    with contextlib.suppress(KeyboardInterrupt):
        serve(folder.resolve(), host, port, address, copy_from)
    print("\nstopped")


def serve(folder: Path, host: str, port: int, address: str | None, copy_from: Path | None) -> None:
    """Start the server, and wait for its end.

    Args:
        folder: Folder of artifacts, keys and the log.
        host: Address to listen at.
        port: Port to listen at.
        address: Address by which others reach the server, if not by host and port.
        copy_from: Database of SQLite whose runs are copied first.

    Raises:
        UserError: The database cannot be reached, has runs already and cannot take others, the
            port is in use, or the server does not start.
    """
    from sqlalchemy import create_engine

    origins = _origins(host, port, address)
    database = _database()
    _check_port(host, port)
    prepare_mlflow()
    engine = create_engine(database, connect_args={"connect_timeout": CONNECT_TIMEOUT})
    has_admin = _has_admin(engine)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.chmod(0o700)  # runs have passwords, so artifacts are not for all users of the machine
    artifacts = folder / "artifacts"
    if copy_from is not None:
        count = copy_runs(copy_from, engine, artifacts)
        print(f"copied {count} runs of {copy_from}", flush=True)
    engine.dispose()

    environment = os.environ | {
        DATABASE_VARIABLE: database,
        "MLFLOW_AUTH_CONFIG_PATH": str(_write_config(folder, database)),
        "MLFLOW_AUTH_ADMIN_USERNAME": ADMIN,
        "MLFLOW_FLASK_SERVER_SECRET_KEY": _kept_secret(folder / "secret_key"),
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    }
    password = "as at the first start"
    if not has_admin and os.environ.get(PASSWORD_VARIABLE):
        password = f"that of {PASSWORD_VARIABLE}"
    elif not has_admin:
        environment[PASSWORD_VARIABLE] = _kept_secret(folder / "admin_password")
        password = f"in {folder / 'admin_password'}"
    command = [sys.executable, "-m", "mlflow", "server", "--app-name", "basic-auth"]
    command += ["--host", host, "--port", str(port), "--workers", "2"]
    command += ["--artifacts-destination", artifacts.as_uri()]
    command += ["--allowed-hosts", ",".join(sorted({urlsplit(one).netloc for one in origins}))]
    command += ["--cors-allowed-origins", ",".join(origins)]
    print("starting MLflow ...", flush=True)
    with (
        open(folder / "server.log", "ab") as log,
        started(command, folder=folder, environment=environment, log=log) as server,
    ):
        wait_until_up(server, host, port, Path(log.name))
        _introduce(origins[0], password)
        server.wait()
        raise UserError(f"MLflow's server stopped; the reason is in {log.name}")


def _origins(host: str, port: int, address: str | None) -> list[str]:
    """Return the addresses by which browsers may use the server, that for others first.

    Raises:
        UserError: The address is none, or one is needed.
    """
    names = [host, *LOOPBACK, socket.gethostname(), socket.getfqdn()]
    origins = [f"http://{name}:{port}" for name in names if name != EVERY_ADDRESS]
    if address is None and host == EVERY_ADDRESS:
        raise UserError(f"--host {host}: also give --address, by which others reach the server")
    if address is not None:
        parts = urlsplit(address)
        if parts.scheme not in ("http", "https") or not parts.netloc:
            raise UserError(f"--address {address}: must be such as https://mlflow.example.org")
        origins.insert(0, f"{parts.scheme}://{parts.netloc}")
    return list(dict.fromkeys(origins))


def _database() -> str:
    """Return the address of the database, with the driver that the extra brings.

    It is no option, because all users of a machine can read command lines. SQLAlchemy's default
    driver depends on its version.

    Raises:
        UserError: It is missing, or not of PostgreSQL.
    """
    scheme, separator, rest = os.environ.get(DATABASE_VARIABLE, "").partition("://")
    if not separator or scheme.partition("+")[0] not in SCHEMES:
        raise UserError(
            f"{DATABASE_VARIABLE}: must be set to postgresql://user:password@host/name; a database "
            "of SQLite is for one user, by `liquidgen ui`"
        )
    return f"postgresql+psycopg://{rest}"


def _check_port(host: str, port: int) -> None:
    try:
        with socket.create_server((host, port)):
            return
    except OSError as error:
        said = error.strerror or str(error)
        raise UserError(f"{host}:{port}: {said}; give another --host or --port") from None


def _has_admin(engine: "Engine") -> bool:
    """Return whether the database has the user that the first start makes.

    Raises:
        UserError: It cannot be opened.
    """
    from sqlalchemy import inspect, text

    password = str(engine.url.password or "\0")
    try:
        with engine.connect() as connection:
            if not inspect(connection).has_table("users"):
                return False
            query = text("select count(*) from users where username = :name")
            return bool(connection.execute(query, {"name": ADMIN}).scalar())
    except Exception as error:
        where = without_secrets(engine.url.render_as_string())
        said = reason(str(error.__cause__ or error).replace(password, "***"))
        raise UserError(f"{where}: cannot be opened: {said}") from None


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
    with tempfile.NamedTemporaryFile("w", dir=folder, delete=False) as file:  # for its owner alone
        config.write(file)
    os.replace(file.name, path)
    return path


def _kept_secret(path: Path) -> str:
    """Return the secret of a file that only its owner can read; a new one if there is no file."""
    with tempfile.NamedTemporaryFile("w", dir=path.parent) as file:
        file.write(secrets.token_urlsafe(24))
        file.flush()
        with contextlib.suppress(FileExistsError):  # whole or not at all, and never another one
            os.link(file.name, path)
    return path.read_text().strip()


def _introduce(address: str, password: str) -> None:
    """Print how to reach the server."""
    print(f"runs:           {address}")
    print(f"user, password: {ADMIN}, {password}")
    print(f"more users:     {address}/signup, as {ADMIN}")
    print(f"for a training: export MLFLOW_TRACKING_URI={address}")
    print("                export MLFLOW_TRACKING_USERNAME=... MLFLOW_TRACKING_PASSWORD=...")
    parts = urlsplit(address)
    if parts.scheme == "http" and parts.hostname not in LOOPBACK:
        print("passwords travel as they are: put a proxy with TLS in front of it, see --address")
    print("stop with Ctrl-C", flush=True)
