"""A database of MLflow within the checkout: made at once, and repaired after a copy or a move."""

import os
import re
import sqlite3
from contextlib import closing
from pathlib import Path
from urllib.parse import quote, unquote

LOCK_TIMEOUT_SECONDS = 2.0  # to wait for another process that writes to the database
ARTIFACTS = "mlruns"  # in the root of a checkout
# tables whose rows name a folder: the columns of their key and of the folder
_LOCATIONS = {
    "experiments": ("experiment_id", "artifact_location"),
    "runs": ("run_uuid", "artifact_uri"),
}


def opened_by(uri: str) -> str:
    """Return the address by which MLflow opens a database of SQLite: locks are awaited briefly."""
    # with the name of the driver, or MLflow makes folders of the names in the quoted path
    named = uri.replace("sqlite:///", "sqlite+pysqlite:///", 1)
    return f"{named}{'&' if '?' in uri else '?'}timeout={LOCK_TIMEOUT_SECONDS}"


def create(path: Path, root: Path) -> None:
    """Create an empty database, whole or not at all.

    MLflow builds one in seconds of many steps, and can neither use nor continue half of them.

    Args:
        path: The database.
        root: Root of the checkout.
    """
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    partial = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        # the folder as an address, because MLflow writes a path with both quotes as wrong SQL
        uri = opened_by(f"sqlite:///{quote(str(partial))}")
        store = SqlAlchemyStore(uri, (root / ARTIFACTS).as_uri())
        store.engine.dispose()
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def artifact_location(root: Path, experiment: str) -> str:
    """Return the address of an experiment's artifacts: one folder of the checkout for any name."""
    plain = re.sub(r"[^\w.-]+", "-", experiment).strip(".-")
    while len(plain.encode()) > 100:
        plain = plain[:-1]
    return (root / ARTIFACTS / (plain or "experiment")).as_uri()


def local_path(location: str) -> Path | None:
    """Return the path of an artifact location; None if it is not on this machine."""
    if location.startswith("file:"):
        path = unquote(location.removeprefix("file:").removeprefix("//"))
    else:
        path = location
    return Path(os.path.normpath(path)) if path.startswith("/") else None


def is_elsewhere(location: str, root: Path) -> bool:
    """Return whether an artifact location is a folder outside the checkout's."""
    path = local_path(location)
    return path is not None and not path.is_relative_to(root / ARTIFACTS)


def check(path: Path) -> None:
    """Check that a database can be opened and read.

    Raises:
        sqlite3.Error: It is damaged, locked or cannot be opened.
    """
    with closing(_connect(path)) as database:
        database.execute("SELECT name FROM sqlite_master").fetchall()


def foreign_locations(path: Path, root: Path) -> dict[str, list[tuple[str, str]]]:
    """Find the artifact locations that a copied or moved checkout brought along.

    Returns:
        New location and key of each row of a table.

    Raises:
        sqlite3.Error: The database cannot be opened, is damaged or locked.
    """
    found: dict[str, list[tuple[str, str]]] = {table: [] for table in _LOCATIONS}
    with closing(_connect(path)) as database:
        tables = {name for (name,) in database.execute("SELECT name FROM sqlite_master")}
        for table in _LOCATIONS.keys() & tables:  # a new database has none
            key, column = _LOCATIONS[table]
            for row, location in database.execute(f"SELECT {key}, {column} FROM {table}"):
                known = local_path(location or "")
                _, is_checkout, inside = str(known).rpartition(f"/{ARTIFACTS}/")
                if not known or not is_checkout or not is_elsewhere(location, root):
                    continue
                # a folder on another disk that is there, and not here, was chosen by the user
                here = root / ARTIFACTS / inside
                if here.exists() or not known.exists():
                    found[table].append((here.as_uri(), row))
    return found


def repair_locations(path: Path, root: Path) -> int:
    """Let all foreign locations point into this checkout; returns the number of runs.

    Raises:
        sqlite3.Error: The database cannot be opened, is damaged or locked.
    """
    foreign = foreign_locations(path, root)
    if any(foreign.values()):
        with closing(sqlite3.connect(path, timeout=LOCK_TIMEOUT_SECONDS)) as database, database:
            for table, rows in foreign.items():
                key, column = _LOCATIONS[table]
                database.executemany(f"UPDATE {table} SET {column} = ? WHERE {key} = ?", rows)
    return len(foreign["runs"])


def _connect(path: Path) -> sqlite3.Connection:
    """Open a database that exists, for reading."""
    uri = f"file:{quote(str(path))}?mode=ro"
    return sqlite3.connect(uri, uri=True, timeout=LOCK_TIMEOUT_SECONDS)
