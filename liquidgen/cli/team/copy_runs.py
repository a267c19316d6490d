"""Copies the runs of a checkout's database into an empty one in PostgreSQL."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from liquidgen.tracking.address import reason, without_secrets
from liquidgen.tracking.own_database import foreign_locations, local_path
from liquidgen.utils.errors import UserError

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine, Table

ROWS = 1000  # per insertion
SERVED = "mlflow-artifacts:/"  # by the server, from its own folder
DEFAULTS = ("experiments", "workspaces")  # tables of which a new database has a row
TRACES = "trace_info"  # LiquidGen makes none, and they have artifacts of their own
LOCATIONS = {  # columns that hold addresses of artifacts
    "experiments": ["artifact_location"],
    "runs": ["artifact_uri"],
    "logged_models": ["artifact_location"],
    "model_versions": ["source", "storage_location"],
}


def copy_runs(source: Path, target: "Engine", artifacts: Path) -> int:
    """Copy all runs, registered models and artifacts; returns the number of runs.

    The source stays as it is. After an error the target is as empty as before.

    Args:
        source: Database of SQLite.
        target: A database in which nothing was recorded.
        artifacts: Folder from which the server will serve artifacts, empty or missing.

    Raises:
        UserError: The source is no database of this version of MLflow, or its artifacts are not
            where it says; or the target or the folder is not empty.
    """
    from mlflow.store.db.base_sql_model import Base
    from mlflow.store.model_registry.sqlalchemy_store import SqlAlchemyStore as RegistryStore
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
    from sqlalchemy import create_engine, text

    _check_source(source)
    if artifacts.is_dir() and any(artifacts.iterdir()):
        raise UserError(f"{artifacts}: has artifacts already; give another folder")
    address = target.url.render_as_string(hide_password=False)
    shown = without_secrets(address)
    with _named(shown):  # creates the tables
        RegistryStore(address).engine.dispose()
        SqlAlchemyStore(address, SERVED).engine.dispose()
    tables = Base.metadata.sorted_tables
    opened = create_engine(f"sqlite:///{quote(str(source))}")
    try:
        with _named(f"copying {source} to {shown}"), opened.connect() as old, target.begin() as new:
            old.exec_driver_sql("BEGIN")  # one state of it, while trainings go on
            new.execute(text("lock table experiments, runs in exclusive mode"))
            _check_versions(source, old, new)
            _check_empty(shown, new, tables)
            moved = _new_locations(old)
            for name in DEFAULTS:  # the source has them, too
                new.execute(Base.metadata.tables[name].delete())
            for table in tables:
                _copy_rows(old, new, table, moved)
            _copy_artifacts(moved, artifacts)
            return _count(new, Base.metadata.tables["runs"])
    finally:
        opened.dispose()


@contextmanager
def _named(what: str) -> Iterator[None]:
    """Turn errors of databases into one line."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"{what}: {reason(error)}") from error


def _check_source(source: Path) -> None:
    if not source.is_file():
        raise UserError(f"--copy-from {source}: no such file; give the mlflow.db of a checkout")
    with _named(str(source)):
        foreign = foreign_locations(source, source.resolve().parent)
    if any(foreign.values()):
        raise UserError(
            f"--copy-from {source}: of a moved checkout; run `liquidgen ui` there once, which lets "
            "its runs find their artifacts"
        )


def _check_versions(source: Path, old: "Connection", new: "Connection") -> None:
    from sqlalchemy import text

    query = text("select version_num from alembic_version")
    if old.execute(query).scalar() != new.execute(query).scalar():
        raise UserError(
            f"--copy-from {source}: of another version of MLflow; if it is older, keep a copy and "
            f"run `mlflow db upgrade sqlite:///{source.resolve()}`"
        )


def _check_empty(shown: str, new: "Connection", tables: "list[Table]") -> None:
    if any(_count(new, table) > (table.name in DEFAULTS) for table in tables):
        raise UserError(
            f"{shown}: has runs already, and only a new database takes others; if they are those "
            "of an earlier --copy-from, start without it"
        )


def _count(connection: "Connection", table: "Table") -> int:
    from sqlalchemy import func, select

    return connection.execute(select(func.count()).select_from(table)).scalar_one()


def _new_locations(old: "Connection") -> dict[str, str]:
    """Return the new address of the artifacts of each experiment, by the old one."""
    from sqlalchemy import text

    found = old.execute(text("select artifact_location, experiment_id from experiments"))
    local = [(location.rstrip("/"), id) for location, id in found if local_path(location or "")]
    # an experiment in the folder of another one comes first
    return {location: f"{SERVED}{id}" for location, id in sorted(local, reverse=True)}


def _copy_rows(old: "Connection", new: "Connection", table: "Table", moved: dict[str, str]) -> None:
    """Copy a table, with new addresses of artifacts; PostgreSQL's own numbers begin after it."""
    from sqlalchemy import JSON, func, null, select

    columns = [column for column in table.columns if not column.computed]
    found = old.execution_options(yield_per=ROWS).execute(select(*columns))
    for part in found.mappings().partitions(ROWS):
        rows = [dict(row) for row in part]
        if table.name == TRACES:
            raise UserError("the database has traces, which are not copied; delete them in MLflow")
        for row in rows:
            for name in LOCATIONS.get(table.name, []):
                row[name] = _moved(row[name], moved)
            for column in columns:
                if row[column.name] is None and isinstance(column.type, JSON):
                    row[column.name] = null()  # else the JSON value null
        new.execute(table.insert(), rows)
    numbered = table.autoincrement_column
    if numbered is not None:
        highest = new.execute(select(func.max(numbered))).scalar()
        sequence = func.pg_get_serial_sequence(table.name, numbered.name)
        if highest is not None:
            new.execute(select(func.setval(sequence, highest + 1, False)))


def _moved(location: str | None, moved: dict[str, str]) -> str | None:
    """Return the new address of an artifact, whose folder will have been copied."""
    for old, new in moved.items():
        if location is not None and (location == old or location.startswith(f"{old}/")):
            return f"{new}{location.removeprefix(old)}"
    return location


def _copy_artifacts(moved: dict[str, str], artifacts: Path) -> None:
    """Copy the folders of the experiments; of an error nothing stays."""
    try:
        for old, new in moved.items():
            folder = local_path(old)
            if folder is not None and folder.is_dir():
                shutil.copytree(folder, artifacts / new.removeprefix(SERVED))
    except OSError as error:
        shutil.rmtree(artifacts, ignore_errors=True)
        raise UserError(f"{artifacts}: {reason(error)}") from error
