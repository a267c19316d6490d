"""A PostgreSQL server on this machine, for one test session."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

import pytest

from helpers.servers import unused_port

FOLDERS = ("", *map(str, sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)))
INITDB = next(filter(None, (shutil.which("initdb", path=one or None) for one in FOLDERS)), None)
NEEDS_POSTGRES = pytest.mark.skipif(
    INITDB is None, reason="no PostgreSQL here: install it (Debian: apt install postgresql)"
)
USER = "team"
PASSWORD = "pa%ss w/rd@1"


@contextmanager
def postgres() -> Iterator[str]:
    """Start a server of its own on loopback; yields the address of an empty database."""
    with tempfile.TemporaryDirectory(prefix="liquidgen-postgres-") as name:
        yield from _serve(Path(name))


def _serve(folder: Path) -> Iterator[str]:
    bin_folder = Path(INITDB).resolve().parent
    data = folder / "data"
    word = folder / "password"
    word.write_text(PASSWORD)
    account = {}
    if os.getuid() == 0:  # PostgreSQL refuses to run as root
        account = {"user": "postgres"}
        shutil.chown(folder, "postgres")
        shutil.chown(word, "postgres")
    port = unused_port()
    auth = ("--auth", "scram-sha-256", "--username", USER, "--pwfile", word)
    settings = f"-p {port} -k {folder} -h 127.0.0.1 -c fsync=off"
    control = (bin_folder / "pg_ctl", "--pgdata", data, "--wait")
    options = {"cwd": folder, "check": True, "stdout": subprocess.DEVNULL, **account}
    subprocess.run([INITDB, "--pgdata", data, *auth], **options)
    log = ("--log", folder / "log")
    subprocess.run([*control, *log, "--options", settings, "start"], **options)
    try:
        yield f"postgresql+psycopg://{USER}:{quote(PASSWORD, safe='')}@127.0.0.1:{port}/postgres"
    finally:
        subprocess.run([*control, "--mode", "immediate", "stop"], **options)
