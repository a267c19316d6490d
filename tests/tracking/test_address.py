"""Addresses of MLflow: resolved in the checkout, and shown without secrets."""

from pathlib import Path

import pytest

from liquidgen.tracking.address import reason, stored, tracking_uri, without_secrets

pytestmark = pytest.mark.fault("passwords in the address of MLflow")

SECRET = "s3cr3t"
WITH_SECRETS = {
    f"http://bob:{SECRET}@host:5000/base": "http://host:5000/base",
    f"https://{SECRET}@host": "https://host",
    f"bob:{SECRET}@host:5000": "host:5000",
    f"postgresql://bob:{SECRET}@db/mlflow": "postgresql://db/mlflow",
    f"postgresql://bob:a/{SECRET}@@#{SECRET}@db/mlflow": "postgresql://db/mlflow",
    f"mysql+pymysql://bob:{SECRET}%40x@db:3306/m": "mysql+pymysql://db:3306/m",
    f"postgresql://db/m?user=bob&password={SECRET}": "postgresql://db/m?user=***&password=***",
}


@pytest.mark.parametrize("uri", WITH_SECRETS)
def test_no_secret_is_shown_or_stored(uri: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    assert without_secrets(uri) == WITH_SECRETS[uri]
    assert (
        stored(Path("/checkout"), uri)
        == stored(Path("/checkout"), without_secrets(uri))
        == without_secrets(uri)
    )
    assert SECRET not in reason(f"API request to {uri}/api failed with Max retries of {uri}")


def test_reason_is_one_printable_line():
    assert reason("a\n\x1b]0;title\x07 \u202eb") == "a \\x1b]0;title\\x07 \\u202eb"
    assert len(reason("c" * 5000)) == 200


@pytest.mark.parametrize(
    ("named", "resolved"),
    [
        ("", "sqlite:////check%20out/mlflow.db"),
        ("sqlite:///runs/m.db", "sqlite:////check%20out/runs/m.db"),
        ("sqlite:////srv/m.db", "sqlite:////srv/m.db"),
        ("sqlite:///:memory:", "sqlite:///:memory:"),
        ("./mlruns", "/check out/mlruns"),
        ("file:mlruns", "file:///check%20out/mlruns"),
        ("http://host", "http://host"),
        ("databricks", "databricks"),
        ("databricks://profile", "databricks://profile"),
    ],
)
def test_relative_address_lies_in_checkout(named: str, resolved: str, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", named)
    assert tracking_uri(Path("/check out")) == resolved


def test_password_alone_is_hidden_in_words_of_others(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"postgresql://bob:{SECRET}%40x@db/m")
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "t0ken")
    said = f"{SECRET}@x and {SECRET}%40x are wrong, as is t0ken"
    assert reason(said) == "*** and *** are wrong, as is ***"
