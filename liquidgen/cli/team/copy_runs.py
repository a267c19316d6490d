"""Copies the runs of a checkout's database into an empty one in PostgreSQL."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from liquidgen.tracking.address import reason, without_secrets
from liquidgen.tracking.own_database import local_path
from liquidgen.tracking.store import silence_mlflow
from liquidgen.utils.errors import UserError

if TYPE_CHECKING:
    from sqlalchemy import Connection, Table

ROWS = 1000  # per insertion
SERVED = "mlflow-artifacts:/"  # by the server, from its own folder
LOCATIONS = {  # columns that hold addresses of artifacts
    "experiments": ["artifact_location"],
    "runs": ["artifact_uri"],
    "logged_models": ["artifact_location"],
    "model_versions": ["source", "storage_location"],
}


def copy_runs(source: Path, database: str, artifacts: Path) -> int:
    """Copy all runs, registered models and artifacts; returns the number of runs.

    The source stays as it is. All rows are copied in one transaction: after an error the target is
    as empty as before.

    Args:
        source: Database of SQLite.
        database: Address of a database without runs.
        artifacts: Folder from which the server will serve artifacts.

    Raises:
        UserError: The source is no database of this version of MLflow, or the target has runs.
    """
    from mlflow.store.db.base_sql_model import Base
    from mlflow.store.model_registry.sqlalchemy_store import SqlAlchemyStore as RegistryStore
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
    from sqlalchemy import create_engine, func, select, text

    if not source.is_file():
        raise UserError(f"--copy-from {source}: no such file; give the mlflow.db of a checkout")
    silence_mlflow()
    shown = without_secrets(database)
    with _named(shown):  # creates the tables
        RegistryStore(database).engine.dispose()
        SqlAlchemyStore(database, SERVED).engine.dispose()
    engines = create_engine(f"sqlite:///{quote(str(source))}"), create_engine(database)
    tables = Base.metadata.sorted_tables
    runs = Base.metadata.tables["runs"]
    with _named(f"{source} or {shown}"), engines[0].connect() as old, engines[1].begin() as new:
        versions = {
            one.execute(text("select version_num from alembic_version")).scalar()
            for one in (old, new)
        }
        if len(versions) > 1:
            raise UserError(
                f"--copy-from {source}: of another version of MLflow; run `liquidgen ui` in its "
                "checkout once, which upgrades it"
            )
        if new.execute(select(func.count()).select_from(runs)).scalar():
            raise UserError(f"{shown}: has runs already; only an empty database takes others")
        moved = _copy_artifacts(old, artifacts)
        for table in reversed(tables):  # the default experiment, which the source has, too
            new.execute(table.delete())
        for table in tables:
            for rows in _rows(old, table, moved):
                new.execute(table.insert(), rows)
            _advance_sequences(new, table)
        return new.execute(select(func.count()).select_from(runs)).scalar_one()


@contextmanager
def _named(where: str) -> Iterator[None]:
    """Turn errors of databases into one line."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"{where}: {reason(error)}") from error


def _copy_artifacts(old: "Connection", artifacts: Path) -> dict[str, str]:
    """Copy the folders of the experiments; returns the new address of each old one."""
    from sqlalchemy import text

    moved = {}
    found = old.execute(text("select experiment_id, artifact_location from experiments"))
    for experiment, location in found:
        folder = local_path(location or "")
        if folder is None:  # on another machine, where it stays
            continue
        moved[location] = f"{SERVED}{experiment}"
        if folder.is_dir():
            shutil.copytree(folder, artifacts / str(experiment), dirs_exist_ok=True)
    return moved


def _rows(
    old: "Connection", table: "Table", moved: dict[str, str]
) -> Iterator[list[dict[str, Any]]]:
    """Yield the rows of a table, some at a time, with new addresses of artifacts."""
    columns = LOCATIONS.get(table.name, [])
    result = old.execution_options(yield_per=ROWS).execute(table.select())
    for part in result.mappings().partitions(ROWS):
        rows = [dict(row) for row in part]
        for row in rows:
            for column in columns:
                row[column] = _moved(row[column], moved)
        yield rows


def _moved(location: str | None, moved: dict[str, str]) -> str | None:
    """Return the new address of an artifact, whose folder may have been copied."""
    for old, new in moved.items():
        if location == old or (location or "").startswith(f"{old}/"):
            return f"{new}{(location or '').removeprefix(old)}"
    return location


def _advance_sequences(new: "Connection", table: "Table") -> None:
    """Let numbers that PostgreSQL gives begin after those that were copied."""
    from sqlalchemy import func, select

    for column in table.primary_key:
        if column is table.autoincrement_column:
            highest = new.execute(select(func.max(column))).scalar()
            if highest is not None:
                sequence = func.pg_get_serial_sequence(table.name, column.name)
                new.execute(select(func.setval(sequence, highest)))
