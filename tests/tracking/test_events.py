"""Lines of a journal: events, or left out with a warning."""

import json
import random
from pathlib import Path

import pytest
from helpers.tracking import logged_steps, mlflow_id_of, trained

from liquidgen.tracking.events import parse_event
from liquidgen.tracking.journal import Journal
from liquidgen.tracking.sending import replay
from liquidgen.tracking.store import Store

pytestmark = pytest.mark.fault("damaged journals of MLflow's points")

EVENTS = [
    {"time": 1, "metrics": {"a": 1.0, "b": float("inf")}, "step": 3},
    {"time": 1, "parent": {"a": 1.0}, "step": 3},
    {"time": 1, "image": "a-3.png", "key": "a", "step": 3, "on_parent": True},
    {"time": 1, "artifact": "a.txt"},
    {"time": 1, "dataset": "a", "digest": "b", "source": "c"},
    {"time": 1, "end": "FAILED", "reason": "the disk is full"},
]
NO_EVENTS = [
    b"5",
    b"null",
    b'"text"',
    b"[" * 100_000,
    b'{"a":' * 100_000,
    b"{}",
    b'{"time": 1}',
    b'{"metrics": {"a": 1.0}, "step": 1}',
    b'{"time": 1, "metrics": {"train/loss": 1.0}}',
    b'{"time": 1, "metrics": {"train/loss": "x"}, "step": 1}',
    b'{"time": 1, "metrics": [1], "step": 1}',
    b'{"time": 1, "metrics": {"a": 1.0}, "step": "1"}',
    b'{"time": 1, "metrics": {"a": 1.0}, "step": 1e999}',
    b'{"time": 1, "metrics": {"a": 1.0}, "step": 1' + b"0" * 30 + b"}",
    b'{"time": 1, "metrics": {"a": 1' + b"0" * 5000 + b'}, "step": 1}',
    b'{"time": "now", "end": "FINISHED"}',
    b'{"time": 1, "end": null}',
    b'{"time": 1, "artifact": "/etc/passwd"}',
    b'{"time": 1, "artifact": "../../params.yaml"}',
    b'{"time": 1, "artifact": ".."}',
    b'{"time": 1, "image": "../a.png", "key": "a", "step": 1, "on_parent": false}',
    b'{"time": 1, "image": "a.png", "step": 1, "on_parent": false}',
    b"\xff\xfe\x00",
    b"\0" * 50,
]


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: list(event)[1])
def test_event_is_read_as_written(event: dict):
    assert parse_event(json.dumps(event | {"of": "a later version"}).encode()) == event


@pytest.mark.parametrize("line", NO_EVENTS, ids=range(len(NO_EVENTS)))
def test_line_that_is_no_event(line: bytes):
    assert parse_event(line) is None


def test_mutated_lines_are_events_or_none():
    random_source = random.Random(0)
    lines = [json.dumps(event).encode() for event in EVENTS]
    accepted = 0
    for _ in range(20_000):
        line = bytearray(random_source.choice(lines))
        for _ in range(random_source.randint(1, 4)):
            line[random_source.randrange(len(line))] = random_source.randrange(256)
        accepted += parse_event(bytes(line)) is not None
    assert 0 < accepted < 20_000


def test_lines_that_are_no_events_stop_neither_training_nor_sending(
    root: Path, caplog: pytest.LogCaptureFixture
):
    first = trained(root, range(3))
    journal = root / "work/train/key/epochs-1/metrics.jsonl"
    with open(journal, "ab") as file:
        file.writelines(line + b"\n" for line in NO_EVENTS)
    longer = trained(root, range(3, 5), epochs=2, start_step=2)
    assert trained(root, range(3, 6), resume=first) == first
    assert logged_steps(root, longer) == list(range(5))
    assert logged_steps(root, first) == list(range(6))
    assert caplog.text.count("a damaged line is left out") <= 4  # not one for each line
    assert len(caplog.messages) == caplog.text.count("a damaged line is left out") > 0


def test_pending_journal_with_damaged_lines_holds_back_no_other(
    root: Path, dead_server: str, monkeypatch: pytest.MonkeyPatch
):
    first, second = trained(root, range(3)), trained(root, range(3), epochs=2)
    path = root / "work/train/key/epochs-1/metrics.jsonl"
    path.write_bytes(b"".join(line + b"\n" for line in NO_EVENTS) + path.read_bytes())
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    replay(Store(root), root)
    for run in (first, second):
        assert logged_steps(root, mlflow_id_of(root, run)) == list(range(3))
    states = [Journal(path).read_state() for path in root.rglob("metrics.jsonl")]
    assert all(state and state.ended for state in states)


def test_state_of_earlier_version_without_an_id_is_read(tmp_path: Path):
    """It was saved before MLflow had answered."""
    header = {"experiment": "e", "name": "n", "params": {}, "tags": {}, "parent": None}
    content = {"header": header | {"run_id": None, "start_time": 0}}
    path = tmp_path / "metrics.jsonl"
    path.touch()
    path.with_suffix(".state.json").write_text(json.dumps(content))
    state = Journal(path).read_state()
    assert state is not None
    assert len(state.header.run_id) == 32
