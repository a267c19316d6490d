"""The measurements on a GPU: all parts, small and on a CPU, and what they say without a GPU."""

import json
import sys
from pathlib import Path

import pytest
import torch

from benchmarks.gpu import __main__ as gpu
from liquidgen.utils.errors import UserError


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    monkeypatch.setattr(sys, "argv", ["gpu", *arguments])
    gpu.main()


def results(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "results.jsonl").read_text().splitlines()]


@pytest.mark.filterwarnings("ignore:.*torch.jit.script_method:DeprecationWarning")  # of torch
def test_rehearsal_runs_every_part(monkeypatch, tmp_path):
    parts = [name for name in gpu.PARTS if name != "tests"]  # pytest in pytest
    run(
        monkeypatch,
        "--rehearse",
        "--minutes",
        "60",
        "--out",
        str(tmp_path / "out"),
        "--parts",
        *parts,
    )
    found = results(tmp_path / "out")
    assert {result["part"] for result in found} == {*parts, "time"}
    assert not [result for result in found if "failed" in result or "skipped" in result]
    report = (tmp_path / "out/report.md").read_text()
    assert "no figure means anything" in report
    assert all(f"\n## {name}\n" in report for name in parts)
    with pytest.raises(UserError, match="name another folder"):
        run(monkeypatch, "--rehearse", "--out", str(tmp_path / "out"))


def test_part_that_fails_is_named_and_the_others_run(monkeypatch, tmp_path):
    def fail(session: object) -> None:
        raise RuntimeError("no such kernel")

    parts = {"bad": fail, "good": lambda session: session.record("good", rate=1.0)}
    monkeypatch.setattr(gpu, "PARTS", parts)
    with pytest.raises(UserError, match=r"^failed: bad; the reasons are above$"):
        run(monkeypatch, "--rehearse", "--out", str(tmp_path))
    assert {"part": "bad", "failed": "RuntimeError: no such kernel"} in results(tmp_path)
    assert {"part": "good", "rate": 1.0} in results(tmp_path)


def test_no_part_begins_after_the_time(monkeypatch, tmp_path):
    monkeypatch.setattr(gpu, "PARTS", {"late": lambda session: session.record("late", rate=1.0)})
    run(monkeypatch, "--rehearse", "--out", str(tmp_path), "--minutes", "0")
    assert results(tmp_path) == [{"part": "late", "skipped": "no time was left"}]


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_without_gpu_is_one_line(monkeypatch, tmp_path):
    with pytest.raises(UserError, match=r"^there is no GPU that torch can use; --rehearse"):
        run(monkeypatch, "--out", str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()
