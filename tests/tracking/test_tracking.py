"""Runs in MLflow: their structure, interruptions, outages and concurrent processes."""

import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.tracking import PARAMS, logged_steps, mlflow_id_of, opened, rows, stored, trained
from mlflow.exceptions import MlflowException
from PIL import Image

from liquidgen.config.paths import project_root
from liquidgen.tracking import Run, relay, sending, start
from liquidgen.tracking.rows import ERROR_TAG, EXTERNAL_ID_TAG
from liquidgen.tracking.run import NullRun
from liquidgen.tracking.store import Store
from liquidgen.utils.errors import UserError


def test_row_has_scores_and_settings_of_one_sampling(root: Path):
    training = trained(root, range(3))
    shown = []
    for guidance, fd in [(2.0, 12.0), (3.0, 15.0), (2.0, 11.0)]:
        params = PARAMS | {"sample.guidance_scale": guidance}
        with opened(root, "evaluate", parent=training, params=params) as child:
            child.log_metrics({"fd": fd}, step=0)
            child.log_to_parent({"fd": fd})
        assert stored(root, child.run_id).data.params["sample.guidance_scale"] == str(guidance)
        shown.append(stored(root, child.run_id).data.tags["mlflow.parentRunId"])
    assert shown[0] == shown[2] == training != shown[1]
    for row, fd, guidance in [(training, 11.0, "2.0"), (shown[1], 15.0, "3.0")]:
        run = stored(root, row)
        assert run.info.status == "FINISHED"
        assert run.info.run_name == ("train" if row == training else "train guidance=3")
        assert run.data.metrics["evaluate/fd"] == fd
        assert run.data.params == {
            "dataset": "emoji",
            "train.seed": "0",
            "sample.guidance_scale": guidance,
        }


def test_images_files_and_datasets_are_stored(root: Path):
    file = root / "facts.txt"
    file.write_text("12")
    with opened(root) as parent:
        parent.log_dataset("emoji-64", "abc123", "data/latents/emoji-64")
        parent.log_artifact(file)
        parent.log_image(Image.new("RGB", (8, 8)), "train/preview", 10)
    with opened(root, "sample", parent=parent.run_id) as child:
        child.log_image(Image.new("RGB", (8, 8)), "samples", 0, on_parent=True)
    client, run = Store(root).client, stored(root, parent.run_id)
    assert run.inputs.dataset_inputs[0].dataset.digest == "abc123"
    assert "facts.txt" in [artifact.path for artifact in client.list_artifacts(run.info.run_id)]
    names = [artifact.path for artifact in client.list_artifacts(run.info.run_id, "images")]
    assert sum(name.endswith(".png") for name in names) == 2
    assert not list(root.glob("work/tracking/*/"))  # temporary journals are removed


def test_data_stages_use_their_own_experiment(root: Path):
    with opened(root, "encode") as run:
        pass
    experiment = Store(root).client.get_experiment(stored(root, run.run_id).info.experiment_id)
    assert experiment.name == "test-data"


def test_resumed_run_has_no_gaps_or_duplicates(root: Path):
    first = trained(root, range(8))
    again = trained(root, range(5, 12), resume=first)  # from a checkpoint at step 5
    assert again == first
    assert logged_steps(root, first) == list(range(12))


def test_resumed_run_is_found_by_its_first_id(root: Path):
    first_id = "0123456789abcdef0123456789abcdef"
    mlflow_id = trained(root, range(3), resume=first_id)
    # as after a kill before MLflow's id was saved
    assert trained(root, range(3, 5), resume=first_id) == mlflow_id
    assert trained(root, range(5, 7), resume=mlflow_id) == mlflow_id
    assert logged_steps(root, mlflow_id) == list(range(7))


def test_changed_parameter_of_resumed_run_becomes_tag(root: Path):
    first = trained(root, range(2))
    trained(root, range(2, 3), resume=first, params=PARAMS | {"train.seed": 1})
    run = stored(root, first)
    assert run.data.params["train.seed"] == "0"
    assert run.data.tags["continued.train.seed"] == "1"


def test_new_run_inherits_curve_up_to_its_start(root: Path):
    first = trained(root, range(8))
    longer = trained(root, range(6, 12), epochs=2, start_step=5)
    assert longer != first
    assert logged_steps(root, longer) == list(range(12))
    assert logged_steps(root, first) == list(range(8))


def test_longer_training_sends_pending_shorter_run(
    root: Path, dead_server: str, monkeypatch: pytest.MonkeyPatch
):
    shorter = trained(root, range(8), epochs=2)
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    longer = trained(root, range(8, 12), epochs=3, start_step=7)
    assert logged_steps(root, mlflow_id_of(root, shorter)) == list(range(8))
    assert stored(root, mlflow_id_of(root, shorter)).info.status == "FINISHED"
    assert logged_steps(root, longer) == list(range(12))


def test_return_to_length_has_no_gaps_or_duplicates(
    root: Path, monkeypatch: pytest.MonkeyPatch, dead_server: str
):
    with monkeypatch.context() as live:
        live.delenv("MLFLOW_TRACKING_URI")
        longer = trained(root, range(8), epochs=4)
    assert trained(root, range(8, 12), epochs=4, resume=longer) == longer
    trained(root, range(8, 10), epochs=3, start_step=7)
    trained(root, range(12, 16), epochs=4, resume=longer, start_step=11)
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    with opened(root, "sample"):  # the next stage sends pending events
        pass
    assert logged_steps(root, longer) == list(range(16))


def test_kill_at_opening_of_longer_training_loses_nothing(
    root: Path, monkeypatch: pytest.MonkeyPatch
):
    def killed(_):
        raise SystemExit

    shorter = trained(root, range(8))
    with monkeypatch.context() as kill:
        kill.setattr(relay.Relay, "open", killed)
        with pytest.raises(SystemExit):
            trained(root, range(0), epochs=2, start_step=3)
    assert trained(root, range(8, 10), resume=shorter) == shorter
    longer = trained(root, range(10, 12), epochs=2, start_step=9)
    assert logged_steps(root, shorter) == list(range(10))
    assert logged_steps(root, longer) == list(range(12))


def test_return_to_length_inherits_missing_steps(root: Path):
    longer = trained(root, range(6), epochs=4)
    trained(root, range(6, 9), epochs=3, start_step=5)
    assert trained(root, range(9, 12), epochs=4, resume=longer, start_step=8) == longer
    assert logged_steps(root, longer) == list(range(12))


def test_new_run_inherits_images_that_exist(root: Path):
    folder = root / "work/train/key"
    first, second = (folder / f"epochs-{epochs}/metrics.jsonl" for epochs in (1, 2))
    with opened(root, journal=first) as run:
        for step in range(3):
            run.log_image(Image.new("RGB", (8, 8)), "preview", step)
    next(first.parent.rglob("preview-0.png")).unlink()
    with opened(root, journal=second, earlier=[first], start_step=1) as run:
        pass
    images = Store(root).client.list_artifacts(run.run_id, "images")
    assert len([p for p in images if p.path.endswith(".png")]) == 1


@pytest.mark.parametrize("resume", [None, "0123456789abcdef0123456789abcdef"])
def test_lost_run_id_is_read_from_journal_state(root: Path, resume: str | None):
    first = trained(root, range(4))
    assert trained(root, range(4, 6), resume=resume) == first
    assert logged_steps(root, first) == list(range(6))


def test_journal_older_than_its_state_is_continued(root: Path):
    first = trained(root, range(4))
    journal = root / "work/train/key/epochs-1/metrics.jsonl"
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join(lines[:2]))
    trained(root, range(2, 8), resume=first)
    assert set(logged_steps(root, first)) == set(range(8))


def test_damaged_state_is_one_warning(root: Path, caplog: pytest.LogCaptureFixture):
    first = trained(root, range(4))
    state = root / "work/train/key/epochs-1/metrics.state.json"
    state.write_bytes(state.read_bytes()[:20])
    with opened(root, "sample"):  # cannot send the unknown run
        pass
    assert len(caplog.messages) == 1
    assert f"{state}: damaged" in caplog.text
    caplog.clear()
    assert trained(root, range(4, 6), resume=first) == first
    assert len(caplog.messages) == 1
    assert json.loads(state.read_bytes())["ended"]
    assert logged_steps(root, first) == list(range(6))


def test_full_disk_loses_only_rejected_events(root: Path):
    journal = root / "work/train/key/epochs-1/metrics.jsonl"
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    with opened(root, journal=journal) as run:
        run.log_metrics({"loss": 1.0}, 0)
        resource.setrlimit(resource.RLIMIT_FSIZE, (journal.stat().st_size + 20, limits[1]))
        try:
            run.log_metrics({"loss": 0.5}, 1)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        run.log_metrics({"loss": 0.3}, 2)
    assert logged_steps(root, run.run_id) == [0, 2]


def test_partial_line_after_kill_is_dropped(root: Path):
    first = trained(root, range(4))
    with open(root / "work/train/key/epochs-1/metrics.jsonl", "a") as file:
        file.write('{"metrics": {"train/lo')
    trained(root, range(4, 6), resume=first)
    assert logged_steps(root, first) == list(range(6))


@pytest.mark.parametrize(
    ("end", "status"),
    [(ValueError, "FAILED"), (SystemExit, "KILLED"), (KeyboardInterrupt, "KILLED")],
)
def test_status_says_how_the_run_ended(root: Path, end: type[BaseException], status: str):
    with pytest.raises(end), opened(root) as run:
        raise end("too bad")
    found = stored(root, run.run_id)
    assert found.info.status == status
    assert found.data.tags.get(ERROR_TAG) == ("too bad" if end is ValueError else None)


def test_failed_run_that_goes_on_has_no_error(root: Path):
    with pytest.raises(ValueError, match="bad"):
        trained(root, range(2), fails=ValueError("bad"))
    (failed,) = rows(root)
    trained(root, range(2, 4), resume=failed.info.run_id)
    (run,) = rows(root)
    assert run.info.status == "FINISHED"
    assert ERROR_TAG not in run.data.tags


def test_dead_server_is_one_warning_run_sent_later(
    root: Path, dead_server: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    offline_id = trained(root, range(4))
    assert len(caplog.messages) == 1
    assert dead_server in caplog.text
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    with opened(
        root, "evaluate", parent=offline_id
    ) as child:  # the next stage sends pending events
        child.log_to_parent({"fd": 9.0})
    mlflow_id = stored(root, child.run_id).data.tags["mlflow.parentRunId"]
    assert trained(root, range(4, 6), resume=offline_id) == mlflow_id
    run = stored(root, mlflow_id)
    assert (run.info.run_name, run.info.status) == ("train", "FINISHED")
    assert run.data.tags[EXTERNAL_ID_TAG] == offline_id
    assert run.data.params["dataset"] == "emoji"
    assert run.data.metrics["evaluate/fd"] == 9.0
    assert logged_steps(root, mlflow_id) == list(range(6))


def test_run_started_offline_keeps_its_start_time(
    root: Path, dead_server: str, monkeypatch: pytest.MonkeyPatch
):
    offline_id = trained(root, range(2))
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    trained(root, range(2, 4), resume=offline_id)
    journal = root / "work/train/key/epochs-1/metrics.jsonl"
    first = json.loads(journal.read_text().splitlines()[0])
    mlflow_id = json.loads(journal.with_suffix(".state.json").read_text())["mlflow_id"]
    assert stored(root, mlflow_id).info.start_time <= first["time"]


@pytest.mark.parametrize("error", [MlflowException("API request timed out"), OSError("reset")])
def test_server_failure_during_run_loses_nothing(
    root: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
):
    def fail(*_):
        raise error

    with monkeypatch.context() as outage, opened(root) as run:
        outage.setattr(Store, "write", fail)
        run.log_metrics({"loss": 1.0}, 0)
    with opened(root, "sample"):
        pass
    assert logged_steps(root, run.run_id) == [0]


def test_damaged_journal_line_is_left_out(root: Path, caplog):
    offline_id = trained(root, range(4))
    journal = root / "work/train/key/epochs-1/metrics.jsonl"
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join([*lines[:2], b"\0" * (len(lines[2]) - 1) + b"\n", *lines[3:]]))
    assert trained(root, range(4, 6), resume=offline_id) == offline_id
    assert "a damaged line is left out" in caplog.text
    assert set(logged_steps(root, offline_id)) >= {4, 5}


def test_unknown_parent_gets_one_placeholder(root: Path):
    elsewhere = "0123456789abcdef0123456789abcdef"
    parents = set()
    for _ in range(2):
        with opened(root, "evaluate", parent=elsewhere) as child:
            child.log_to_parent({"fd": 1.0})
        parents.add(stored(root, child.run_id).data.tags["mlflow.parentRunId"])
    (placeholder,) = parents
    assert stored(root, placeholder).data.metrics == {"evaluate/fd": 1.0}


def test_logging_errors_are_warnings(root: Path, caplog: pytest.LogCaptureFixture):
    with opened(root) as run:
        run.log_metrics({"loss": "not a number"}, 0)
        for step in range(3):
            run.log_metrics({"name!": 1.0}, step)  # MLflow refuses it
        run.log_image("not a picture", "train/preview", 0)
        run.log_artifact(root / "missing.png")
        run.log_dataset()
        run.log_to_parent({"fd": 1.0})  # it has none
        run.log_metrics({"loss": 1.0, "other": float("nan")}, 1)
    assert logged_steps(root, run.run_id) == [1]
    (rejected,) = (line for line in caplog.messages if "left out" in line)
    assert "3 are left out" in rejected
    assert caplog.text.count("failed") == 5


def test_disabled_run_overrides_every_logging_method():
    methods = {name for name in vars(Run) if not name.startswith("_")} - {"run_id"}
    assert methods <= vars(NullRun).keys()


def test_disabled_run_leaves_no_trace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with opened(tmp_path, enabled=False, journal=tmp_path / "work/train/metrics.jsonl") as run:
        run.log_metrics({"loss": 1.0}, 0)
        run.log_image(Image.new("RGB", (8, 8)), "samples", 0, on_parent=True)
        run.log_artifact(tmp_path / "missing.png")
        run.log_dataset("emoji-64", "abc123", "data/latents/emoji-64")
        run.log_to_parent({"fd": 1.0})
    assert list(tmp_path.iterdir()) == []


def test_locked_journal_is_refused(root: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(start, "LOCK_TIMEOUT_SECONDS", 0.1)
    journal = root / "work/train/key/epochs-1/metrics.jsonl"
    with (
        opened(root, journal=journal),
        pytest.raises(UserError, match="another process"),
        opened(root, journal=journal),
    ):
        pass


def test_dvc_workspace_records_in_checkout(root: Path, monkeypatch: pytest.MonkeyPatch):
    workspace = root / ".dvc/tmp/exps/tmp1234"
    workspace.mkdir(parents=True)
    monkeypatch.chdir(workspace)
    monkeypatch.setenv("DVC_EXP_NAME", "wide-hat")
    with opened(project_root()) as run:
        run.log_image(Image.new("RGB", (8, 8)), "train/preview", 0)
    assert stored(root, run.run_id).data.tags["dvc.experiment"] == "wide-hat"
    assert list(root.glob("mlruns/**/*.png"))
    assert not list(workspace.iterdir())


PROCESS = """
import os, sys
from pathlib import Path
from liquidgen.tracking import open_run
with open_run(Path(sys.argv[1]), "test", "train", name="train", params={}) as run:
    print(run.run_id, flush=True)
    run.log_metrics({"loss": 1.0}, 0)
    if sys.argv[2] == "dies":
        os._exit(9)
"""


def test_concurrent_store_creation_and_killed_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", PROCESS, str(tmp_path), how],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for how in ("ends", "dies")
    ]
    answers = [process.communicate(timeout=120) for process in processes]
    assert [process.returncode for process in processes] == [0, 9]
    assert [errors for _, errors in answers] == ["", ""]
    ended, killed = (output.strip() for output, _ in answers)
    sending.replay(Store(tmp_path), tmp_path)
    assert stored(tmp_path, ended).info.status == "FINISHED"
    assert stored(tmp_path, killed).info.status == "KILLED"
    assert logged_steps(tmp_path, killed) == [0]


def test_metrics_are_on_disk_before_logging_returns(root: Path, monkeypatch: pytest.MonkeyPatch):
    synced: list[str] = []
    journal = root / "work/train/key/epochs-1/metrics.jsonl"
    fsync = os.fsync

    def recorded(descriptor: int) -> None:
        synced.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        fsync(descriptor)

    with opened(root, journal=journal) as run:
        monkeypatch.setattr(os, "fsync", recorded)
        run.log_metrics({"loss": 1.0}, 0)
        assert str(journal) in synced


def test_journal_is_json_lines(root: Path):
    trained(root, range(2))
    lines = (root / "work/train/key/epochs-1/metrics.jsonl").read_text().splitlines()
    events = [json.loads(line) for line in lines]
    assert [event.get("metrics") for event in events[:2]] == [
        {"train/loss": 1.0},
        {"train/loss": 0.5},
    ]


def test_empty_tracking_uri_is_unset(root: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "")
    store = Store(root)
    experiment = store.client.get_experiment(store.rows.experiment("pictures"))
    assert experiment.artifact_location == (root / "mlruns/pictures").as_uri()


def test_address_of_earlier_version_is_known(root: Path, monkeypatch: pytest.MonkeyPatch):
    first = trained(root, range(4))
    state = root / "work/train/key/epochs-1/metrics.state.json"
    earlier = json.loads(state.read_bytes()) | {"store": f"sqlite:///{root}/mlflow.db"}
    state.write_text(json.dumps(earlier))
    written: list[int] = []
    write = Store.write

    def counted(self: Store, run: str, events: list, *rest: object) -> None:
        written.append(len(events))
        write(self, run, events, *rest)

    monkeypatch.setattr(Store, "write", counted)
    trained(root, range(4, 6), resume=first)
    assert sum(written) == 2
    assert json.loads(state.read_bytes())["store"] == "sqlite:///mlflow.db"
