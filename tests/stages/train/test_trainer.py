"""Training on real encoded latents: it learns, stops and resumes."""

import json
import logging
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial

import numpy as np
import psutil
import pytest
import torch
from helpers.memory import use_memory_for
from helpers.processes import wait_for
from helpers.training import (
    CPU,
    MemoryLog,
    assert_same_end,
    prepare,
    preview,
    stop,
    train,
    with_values,
)

from liquidgen.generator.model_folder import load_model
from liquidgen.latents.autoencoder import Autoencoder
from liquidgen.stages.train.callbacks import CallbackLogger
from liquidgen.stages.train.checkpoint import checkpoints, load_checkpoint, save_checkpoint
from liquidgen.stages.train.export import export, train_scores
from liquidgen.stages.train.learner import Learner
from liquidgen.stages.train.trainer import Trainer
from liquidgen.utils.errors import UserError
from liquidgen.utils.workers import Threads

TRAINING_LATENTS = 143
STEPS = 8  # of an epoch


class Broken:
    """A callback that always fails."""

    def log_metrics(self, metrics, step):
        raise OSError("the drive is full")

    def log_image(self, image, key, step):
        raise RuntimeError("no display")


def test_failing_callback_warns_once(tmp_path, latents, caplog):
    training = prepare(tmp_path, latents, num_epochs=1)
    log = MemoryLog()
    other = MemoryLog()
    logs = CallbackLogger(log, [Broken(), other, Broken()])
    trainer = train(training, logs)
    logs.log_image("picture", "preview", STEPS)
    assert trainer.learner.step == STEPS
    assert checkpoints(training.folder)[-1][0] == STEPS
    assert log.metrics == other.metrics
    assert log.images == other.images == [(STEPS, "preview", "picture")]
    assert [record.getMessage() for record in caplog.records] == 2 * [
        "callback Broken failed (OSError: the drive is full); the training goes on, and this "
        "warning appears once"
    ]


def test_failing_log_raises():
    with pytest.raises(OSError, match="full"):
        CallbackLogger(Broken(), [MemoryLog()]).log_metrics({}, 1)


def test_loss_falls_on_real_latents(tmp_path, latents):
    # 12 epochs end at 0.9000 of the first loss, above or below depending on the processor
    trainer = train(prepare(tmp_path, latents, num_epochs=20))
    losses = [row["validation_loss"] for row in trainer.progress.curve]
    assert len(losses) == 20
    assert losses[-1] < 0.9 * losses[0]
    assert trainer.progress.curve[-1]["loss"] < 0.9 * trainer.progress.curve[0]["loss"]


@pytest.mark.parametrize("at", [1, STEPS - 1, STEPS, STEPS + 4])
def test_interrupted_training_ends_bitwise_equal(tmp_path, latents, at):
    straight = train(prepare(tmp_path / "straight", latents))
    training = prepare(tmp_path / "interrupted", latents)
    order = [batch.tolist() for batch in Trainer(training, CPU).remaining_batches()]
    assert stop(training, at) == f"stopped at step {at}, all progress is saved"
    rest = Trainer(training, CPU).remaining_batches()
    assert [batch.tolist() for batch in rest] == order[at:]
    assert_same_end(train(training), straight)


@pytest.fixture
def ahead(monkeypatch):
    """A thread prepares batches, as on a GPU."""
    monkeypatch.setattr("liquidgen.stages.train.trainer.Threads", lambda num_workers: Threads(1))


def test_batches_prepared_ahead_change_nothing(tmp_path, latents, ahead):
    training = prepare(tmp_path / "ahead", latents)
    stop(training, STEPS + 4)
    with pytest.MonkeyPatch.context() as without:
        without.setattr("liquidgen.stages.train.trainer.Threads", Threads)
        straight = train(prepare(tmp_path / "straight", latents))
    assert_same_end(train(training), straight)


def test_batch_that_cannot_be_prepared_ahead_stops(tmp_path, latents, ahead, monkeypatch):
    def fail(self, step, latents, labels):
        raise MemoryError

    monkeypatch.setattr(Learner, "prepare", fail)
    with pytest.raises(UserError, match="memory ran out"):
        train(prepare(tmp_path, latents))


def without_a_tensor(tensors, state):
    del tensors["ema.out_mix.weight"]


def of_another_shape(tensors, state):
    tensors["model.out_mix.weight"] = torch.zeros(3)


def of_another_step(tensors, state):
    state["learner"]["step"] = 10**9


def without_a_state(tensors, state):
    del state["learner"]["scaler"]


def with_odd_losses(tensors, state):
    state["progress"]["losses"] = ["many"]


def with_odd_progress(tensors, state):
    state["progress"] = None


def with_unknown_progress(tensors, state):
    state["progress"]["mood"] = 1.0


@pytest.mark.parametrize(
    "forge",
    [
        without_a_tensor,
        of_another_shape,
        of_another_step,
        without_a_state,
        with_odd_losses,
        with_odd_progress,
        with_unknown_progress,
    ],
)
def test_checkpoint_of_wrong_content_is_left_out(tmp_path, latents, caplog, forge):
    """Its digest is right; the one before is used, and nothing of it stays."""
    training = prepare(tmp_path, latents)
    stop(training, STEPS)
    expected, _ = Trainer(training, CPU).learner.state()
    tensors, state = load_checkpoint(training.folder, STEPS)
    tensors = {name: value + 1 for name, value in tensors.items()}
    state["learner"]["step"] = STEPS + 1
    forge(tensors, state)
    path = save_checkpoint(training.folder, STEPS + 1, tensors, state)
    trainer = Trainer(training, CPU)
    assert trainer.learner.step == STEPS
    assert f"{path}: damaged checkpoint, going back to step {STEPS}" in caplog.text
    found, _ = trainer.learner.state()
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], value) for name, value in expected.items())


@pytest.mark.parametrize("at", [STEPS, 2 * STEPS])
@pytest.mark.parametrize("left", ["validation", "preview"])
def test_stop_postpones_validation_and_preview(tmp_path, latents, at, left):
    class Stopping(MemoryLog):
        def log_metrics(self, metrics, step):
            self.stop_at = at if left == "validation" or "validation_loss" in metrics else None
            super().log_metrics(metrics, step)

    training = prepare(tmp_path, latents, preview_every=1)
    log = Stopping()
    rest = MemoryLog()
    with pytest.raises(KeyboardInterrupt, match=f"stopped at step {at},"), training.locked():
        Trainer(training, CPU).run(log, preview)
    assert (at in log.steps_of("validation_loss")) == (left == "preview")
    assert at not in [step for step, _, _ in log.images]
    trainer = train(training, rest)
    assert [row["epoch"] for row in trainer.progress.curve] == [1, 2]
    assert (at in rest.steps_of("validation_loss")) == (left == "validation")
    assert [step for step, _, _ in rest.images] == list(range(at, 2 * STEPS + 1, STEPS))
    straight = train(prepare(tmp_path / "straight", latents))
    assert_same_end(trainer, straight)


def test_epoch_visits_samples_at_most_once(tmp_path, latents):
    training = prepare(tmp_path, latents, batch_size=25, num_epochs=3)
    seen = [batch.tolist() for batch in Trainer(training, CPU).remaining_batches()]
    assert training.last_step == len(seen) == 3 * (TRAINING_LATENTS // 25)
    for epoch in range(3):
        visited = np.concatenate(seen[5 * epoch : 5 * epoch + 5])
        assert len(set(visited.tolist())) == 125
    assert seen[:5] != seen[5:10]


def test_signal_handlers_are_restored(tmp_path, latents):
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = [signal.getsignal(number) for number in numbers]
    training = prepare(tmp_path, latents)
    stop(training, at=1)
    train(training)
    assert [signal.getsignal(number) for number in numbers] == before


def test_more_epochs_continue(tmp_path, latents):
    train(prepare(tmp_path, latents, num_epochs=1))
    log = MemoryLog()
    longer = train(prepare(tmp_path, latents, num_epochs=3), log)
    assert log.steps_of("loss") == list(range(STEPS + 1, 3 * STEPS + 1))
    assert_same_end(longer, train(prepare(tmp_path / "other", latents, num_epochs=3)))


def test_fewer_epochs_use_earlier_checkpoint(tmp_path, latents):
    """The later checkpoint is kept."""
    short = train(prepare(tmp_path, latents, num_epochs=1))
    train(prepare(tmp_path, latents, num_epochs=2))
    log = MemoryLog()
    assert_same_end(train(prepare(tmp_path, latents, num_epochs=1), log), short)
    assert log.metrics == []
    assert [step for step, _ in checkpoints(short.training.folder)] == [STEPS, 2 * STEPS]


def test_fewer_epochs_end_where_longer_was_stopped(tmp_path, latents):
    stop(prepare(tmp_path, latents, num_epochs=3, validate_every=3), at=STEPS)
    trainer = train(prepare(tmp_path, latents, num_epochs=1, validate_every=3))
    assert [row["epoch"] for row in trainer.progress.curve] == [1]
    assert train_scores(trainer)["num_steps"] == STEPS


def test_finished_training_has_the_same_scores_again(tmp_path, latents):
    training = prepare(tmp_path, latents)
    first = train_scores(train(training))
    log = MemoryLog()
    assert train_scores(train(training, log)) == first
    assert log.metrics == log.images == []
    assert first["num_images"] == 2 * STEPS * 16
    assert first["images_per_second"] == first["num_images"] / first["seconds"]


def test_seconds_add_up_over_interruptions(tmp_path, latents):
    training = prepare(tmp_path, latents)
    stop(training, at=5)
    before = Trainer(training, CPU).progress.seconds
    after = train(training).progress.seconds
    assert 0 < before < after


def environment(root):
    return os.environ | {"PYTHONPATH": str(root)}


def test_damaged_newest_checkpoint_costs_its_steps(tmp_path, latents, caplog):
    straight = train(prepare(tmp_path / "straight", latents))
    training = prepare(tmp_path, latents)
    stop(training, at=4)
    stop(training, at=7)
    newest = checkpoints(training.folder)[-1][1]
    newest.write_bytes(newest.read_bytes()[:-1] + b"?")
    with caplog.at_level(logging.WARNING):
        assert Trainer(training, CPU).learner.step == 4
        stop(training, at=6)
        assert [step for step, _ in checkpoints(training.folder)] == [4, 6]
        assert_same_end(train(training), straight)
    assert f"{newest}: damaged checkpoint" in caplog.text


LOCKING = """
import sys, time
from pathlib import Path
from liquidgen.utils.files import locked
with locked(Path(sys.argv[1]), "trains here"):
    print(flush=True)
    time.sleep(2)
"""


def test_trainer_waits_for_one_about_to_stop(tmp_path, latents):
    training = prepare(tmp_path, latents, num_epochs=1)
    with subprocess.Popen(
        [sys.executable, "-c", LOCKING, str(training.folder)], stdout=subprocess.PIPE
    ) as other:
        other.stdout.readline()
        train(training)


PROCESS = """
import json, sys
sys.path.insert(0, "tests")
from pathlib import Path
from helpers.training import CPU, MemoryLog, Trainer, prepare
folder, latents, changes = sys.argv[1:]
training = prepare(Path(folder), Path(latents), **json.loads(changes))
with training.locked():
    Trainer(training, CPU).run(MemoryLog())
"""


def is_free(training):
    try:
        with training.locked():
            return True
    except UserError:
        return False


@pytest.fixture
def endless(tmp_path, latents):
    """A training without end, and a command that runs it in a process of its own."""
    changes = {"num_epochs": 100_000, "checkpoint_every": 0.2}
    training = prepare(tmp_path, latents, **changes)
    arguments = [str(tmp_path), str(latents), json.dumps(changes)]
    return training, [sys.executable, "-c", PROCESS, *arguments]


def assert_saves(training, process, number):
    """Send a signal to the process; its last line must name the step of the last checkpoint."""
    seen = checkpoints(training.folder)[-1][0]
    process.send_signal(number)
    _, output = process.communicate(timeout=30)
    saved = checkpoints(training.folder)[-1][0]
    assert output.splitlines()[-1] == (
        f"KeyboardInterrupt: stopped at step {saved}, all progress is saved"
    )
    assert saved >= seen
    assert process.returncode == 1
    assert is_free(training)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_stopped_process_saves_and_exits(number, endless):
    training, command = endless
    with subprocess.Popen(
        command, env=environment("."), stderr=subprocess.PIPE, text=True
    ) as process:
        wait_for(lambda: len(checkpoints(training.folder)) == 2)
        assert_saves(training, process, number)


def test_training_survives_its_shell_and_the_hangup_under_nohup(endless):
    training, command = endless
    shell = ["sh", "-c", 'nohup "$@" & echo $! & wait', "sh", *command]
    with subprocess.Popen(
        shell, env=environment("."), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        trainer = psutil.Process(int(process.stdout.readline()))
        try:
            wait_for(lambda: checkpoints(training.folder))
            process.kill()
            process.wait()
            trainer.send_signal(signal.SIGHUP)
            seen = checkpoints(training.folder)[-1][0]
            wait_for(lambda: checkpoints(training.folder)[-1][0] > seen + 2)
            trainer.terminate()
            trainer.wait(30)
            assert is_free(training)
        finally:
            with suppress(psutil.NoSuchProcess):
                trainer.kill()


def test_any_thread_trains_without_handlers(tmp_path, latents):
    handlers = []

    class Looking(MemoryLog):
        def log_metrics(self, metrics, step):
            handlers.append(signal.getsignal(signal.SIGINT))

    with ThreadPoolExecutor(1) as executor:
        trainer = executor.submit(train, prepare(tmp_path, latents), Looking()).result()
    assert set(handlers) == {signal.getsignal(signal.SIGINT)}
    assert_same_end(trainer, train(prepare(tmp_path / "main thread", latents)))


def test_too_little_memory_names_the_keys_to_change(tmp_path, latents, monkeypatch):
    backward = Learner._backward

    def limited(self, *batch):
        use_memory_for(len(batch[0]), most=15 + 16 * (self.step < STEPS))
        return backward(self, *batch)

    monkeypatch.setattr(Learner, "_backward", limited)
    training = prepare(tmp_path, latents, checkpoint_every=1e-9)
    with pytest.raises(
        UserError, match=r"^memory ran out \(.+ allocate memory.+\); lower "
    ) as stopped:
        train(training)
    assert "train.batch_size (16), raise train.accumulation_steps (1;" in str(stopped.value)
    assert "\n" not in str(stopped.value)
    monkeypatch.undo()
    assert_same_end(train(training), train(prepare(tmp_path / "straight", latents)))


def test_too_little_memory_for_a_preview_goes_on(tmp_path, latents, monkeypatch, caplog):
    training = prepare(tmp_path, latents, num_epochs=1, preview_every=1)
    monkeypatch.setattr(Autoencoder, "decode", lambda self, latents: use_memory_for(1, most=0))
    log = MemoryLog()
    assert train(training, log).learner.step == STEPS
    assert log.images == []
    [message] = caplog.messages
    assert message.startswith(f"no preview at step {STEPS} (memory ran out (")


def test_nonfinite_batch_is_skipped_and_counted(tmp_path, latents):
    def spoil(values):
        values[5, 0, 0, 0] = np.inf

    broken = with_values(tmp_path / "latents", latents, spoil)
    trainer = train(prepare(tmp_path, broken, num_epochs=3))
    scores = train_scores(trainer)
    assert scores["skipped_steps"] == 3  # the batch with sample 5, each epoch
    assert scores["num_steps"] == 3 * STEPS
    assert all(np.isfinite(value) for value in scores.values())
    tensors, state = trainer.learner.state()
    assert all(value.isfinite().all() for value in tensors.values())
    assert state["ema_step"] == 3 * STEPS - 3


@pytest.mark.parametrize(("num_epochs", "batch_size", "steps"), [(2, 16, 10), (1, 47, 3)])
def test_nonfinite_steps_in_a_row_stop(tmp_path, latents, num_epochs, batch_size, steps):
    """After ten in a row, or when there are no others."""
    broken = with_values(tmp_path / "latents", latents, lambda values: values.fill(np.nan))
    training = prepare(tmp_path, broken, num_epochs=num_epochs, batch_size=batch_size)
    order = [batch.tolist() for batch in Trainer(training, CPU).remaining_batches()]
    epoch, batch = divmod(steps - 1, training.steps_per_epoch)
    with pytest.raises(UserError) as error:
        train(training)
    message = str(error.value)
    assert message.startswith(
        f"train: {steps} steps in a row had no finite loss or gradient, the last on batch {batch}"
        f" of epoch {epoch} (training samples {', '.join(map(str, order[steps - 1][:8]))}, ...)"
    )
    assert "\n" not in message
    assert checkpoints(training.folder) == []


def test_checkpoints_are_written_while_training(tmp_path, latents):
    training = prepare(tmp_path, latents, checkpoint_every=1e-9, num_epochs=1)

    class Watching(MemoryLog):
        def log_metrics(self, metrics, step):
            self.metrics.append([found for found, _ in checkpoints(training.folder)])

    log = Watching()
    train(training, log)
    assert log.metrics[:4] == [[1], [1, 2], [2, 3], [3, 4]]


def test_losses_are_logged_at_intervals_and_end(tmp_path, latents):
    log = MemoryLog()
    train(prepare(tmp_path, latents, num_epochs=3, log_every=5, validate_every=2), log)
    assert log.steps_of("loss") == [5, 10, 15, 20, 24]
    assert log.steps_of("validation_loss") == [2 * STEPS, 3 * STEPS]
    assert log.images == []


def test_failed_compilation_is_one_line(tmp_path, latents, monkeypatch):
    def without_compiler(graph, inputs):
        raise RuntimeError("no C++ compiler")

    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=without_compiler))
    with pytest.raises(UserError) as error:
        train(prepare(tmp_path, latents, compile=True))
    message = str(error.value)
    assert message.startswith("train.compile: torch cannot compile the network here (")
    assert message.endswith("no C++ compiler); install what is missing, or set it to false")
    assert "\n" not in message


def test_export_writes_averaged_weights_and_curve(tmp_path, latents):
    trainer = train(prepare(tmp_path, latents))
    folder = tmp_path / "model"
    metrics = tmp_path / "metrics"
    export(trainer, folder, metrics, name="a-name", run_id="a-run")
    model, metadata = load_model(folder)
    averages = trainer.learner.ema.shadow_params
    for (name, value), average in zip(model.named_parameters(), averages, strict=True):
        assert torch.equal(value, average), name
    assert (metadata.name, metadata.num_epochs, metadata.num_steps) == ("a-name", 2, 2 * STEPS)
    assert metadata.parameters == sum(value.numel() for value in model.parameters())
    assert json.loads((metrics / "train.json").read_bytes()) == train_scores(trainer)
    header, *rows = (metrics / "train.csv").read_text().splitlines()
    assert header.startswith("epoch,loss,validation_loss,validation_loss_t0.00-0.25,")
    assert [row.split(",")[0] for row in rows] == ["1.0", "2.0"]


def test_interrupt_is_usable_before_run(tmp_path, latents):
    """Public methods of a trainer work before `run`, such as those that check for a stop."""
    trainer = Trainer(prepare(tmp_path, latents), CPU)
    log = MemoryLog()
    trainer.check_interrupt()
    trainer.log_preview(log, preview)
    assert [key for _, key, _ in log.images] == ["preview"]


IMPORTED = """
import sys
import stages.train
print(*sorted(sys.modules))
"""


def test_stage_imports_no_other_stage_and_no_mlflow():
    done = subprocess.run(
        [sys.executable, "-c", IMPORTED], capture_output=True, text=True, env=environment(".")
    )
    assert done.returncode == 0, done.stderr
    loaded = set(done.stdout.split())
    stages = {f"liquidgen.stages.{name}" for name in ("download", "encode", "sample", "evaluate")}
    assert not loaded & (stages | {"liquidgen.pipeline"})
    assert not loaded & {"mlflow", "sklearn", "torchmetrics", "webdataset", "datasets", "pyarrow"}
    assert "liquidgen.stages.train.trainer" in loaded
