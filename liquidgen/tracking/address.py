"""The address of MLflow: where it points to, and how it is shown and stored without passwords."""

import os
import re
from pathlib import Path
from urllib.parse import quote, unquote

from liquidgen.utils.errors import reason_of
from liquidgen.utils.text import one_line

OWN_DATABASE = "mlflow.db"  # in the root of a checkout
DATABASES = {"sqlite", "postgresql", "mysql", "mssql"}  # schemes that MLflow opens without a server
SECRET_VARIABLES = ("MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN")
HIDDEN = "***"
_SQLITE = re.compile(r"(sqlite(?:\+\w+)?:///)([^?]*)(.*)", re.DOTALL)
# up to the last @, because a password may hold any character
_CREDENTIALS = re.compile(r"^([\w+.-]+://)?(.*)@", re.DOTALL)
_SECRET_OPTION = re.compile(r"([?&][^=&]*(?:pass|pwd|token|secret|key|user)[^=&]*=)([^&#]+)", re.I)


def named_uri() -> str:
    """Return MLFLOW_TRACKING_URI; empty if it is not set."""
    return os.environ.get("MLFLOW_TRACKING_URI", "").strip()


def tracking_uri(root: Path) -> str:
    """Return the address of the store.

    That is MLFLOW_TRACKING_URI or, if it is not set, a database in the root of the checkout. A
    relative address is one in the root, whatever the current folder is: `dvc exp run --temp` works
    in a folder that it deletes.
    """
    uri = named_uri()
    if not uri:
        return f"sqlite:///{quote(str(root / OWN_DATABASE))}"
    if match := _SQLITE.fullmatch(uri):
        scheme, path, options = match.groups()
        # neither absolute, nor in memory, nor an address of SQLite
        if path and not path.startswith(("/", ":", "file:")):
            return f"{scheme}{quote(str(root))}/{path}{options}"
        return uri
    if uri.startswith("file:") and not uri.startswith("file:/"):
        return (root / unquote(uri.removeprefix("file:"))).as_uri()
    is_path = ":" not in uri and uri not in ("databricks", "databricks-uc", "uc")
    return str(root / uri) if is_path else uri


def is_database(uri: str) -> bool:
    """Return whether MLflow opens the store itself, and not through a server."""
    return uri.partition(":")[0].partition("+")[0] in DATABASES


def sqlite_file(uri: str) -> Path | None:
    """Return the file of an address of SQLite; None for any other address."""
    match = _SQLITE.fullmatch(uri)
    return Path(unquote(match[2])) if match and match[2].startswith("/") else None


def file_in(root: Path, uri: str) -> Path | None:
    """Return the database file of an address if it belongs to the checkout."""
    path = sqlite_file(uri)
    return path if path and path.is_relative_to(root) else None


def without_secrets(uri: str) -> str:
    """Return an address without user, password and other secrets."""
    if _SQLITE.fullmatch(uri) or uri.startswith(("file:", "/")):
        return uri
    return _SECRET_OPTION.sub(rf"\1{HIDDEN}", _CREDENTIALS.sub(r"\1", uri))


def stored(root: Path, uri: str) -> str:
    """Return what identifies a store: no secrets, and the same for a moved checkout's own.

    That of a result is the result itself.
    """
    path = file_in(root, uri)
    return f"sqlite:///{quote(str(path.relative_to(root)))}" if path else without_secrets(uri)


def reason(error: BaseException | str) -> str:
    """Return what MLflow says of a failure as one short line: no secrets or control characters."""
    text = error if isinstance(error, str) else reason_of(error)
    for secret in sorted(_secrets(), key=len, reverse=True):
        text = text.replace(secret, HIDDEN)
    text = re.sub(r"(?<=://)[^\s/@'\"]*@", "", text)
    return one_line(" ".join(text.split())[:200])


def _secrets() -> set[str]:
    """Return the secrets of the environment, as MLflow's messages may hold them."""
    uri = named_uri()
    secrets = {os.environ.get(name, "") for name in SECRET_VARIABLES}
    secrets |= {value for _, value in _SECRET_OPTION.findall(uri)}
    if without_secrets(uri) != uri and (match := _CREDENTIALS.search(uri)):
        secrets |= {f"{match[2]}@", match[2], match[2].partition(":")[2]}
    return {form for secret in secrets for form in (secret, unquote(secret), quote(secret))} - {""}
