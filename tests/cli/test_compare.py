"""`liquidgen compare`: what it prints, and when it opens a browser."""

import shutil
from pathlib import Path

import pytest
from helpers.checkout import PROJECT

from liquidgen.cli import compare, main
from liquidgen.report import reports
from liquidgen.report.facts import RunFacts


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copy(PROJECT / "params.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def outcome(*arguments: str) -> object:
    with pytest.raises(SystemExit) as exited:
        main(["compare", *arguments])
    return exited.value.code


def test_path_is_printed_and_page_opened(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
):
    opened: list[str] = []
    monkeypatch.setattr(compare, "open_in_browser", opened.append)
    monkeypatch.setattr(reports, "report_chosen", lambda names, root, name: root / f"{names}.html")
    monkeypatch.setattr(reports, "report_workspace", lambda params, root: root / "index.html")
    assert not outcome("ab", "cd")
    assert not outcome()
    paths = [root / "['ab', 'cd'].html", root / "index.html"]
    assert capsys.readouterr().out.splitlines() == [str(path) for path in paths]
    assert opened == [path.as_uri() for path in paths]


def test_list_has_one_line_per_run(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
):
    runs = [
        RunFacts("ab" * 16, "a\nname", None, "FINISHED", {}, {"kid": 0.25}, {}),
        RunFacts("cd" * 16, "other", None, "FAILED", {}, {}, {"validation_loss": 1.5}),
    ]
    monkeypatch.setattr(reports, "recorded_runs", lambda root, experiment: runs)
    assert not outcome("--list")
    heading, first, second = capsys.readouterr().out.splitlines()
    assert heading.split() == list(compare.HEADER)
    assert first.split() == ["abababab", "finished", "0.25", r"a\nname"]
    assert second.split() == ["cdcdcdcd", "failed", "1.5", "other"]
    assert "--list lists all runs" in str(outcome("--list", "ab"))


def test_run_that_was_not_evaluated_is_one_line(root: Path):
    assert outcome() == "error: metrics/evaluate.json: missing; run `dvc repro`"
