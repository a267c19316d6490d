"""Training on real encoded latents: it learns, stops, resumes, and refuses."""

import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import time
import weakref
from functools import partial
from typing import get_args

import numpy as np
import pytest
import torch
from helpers.checkout import encoded
from helpers.training import (
    CLASSES,
    CPU,
    MODEL,
    PARAMS,
    SIDE,
    SMALL,
    Points,
    assert_same_end,
    prepare,
    stop,
    train,
)

from liquidgen.config.settings import ProceduralSettings, TrainSettings
from liquidgen.latents.autoencoder import Autoencoder, load_autoencoder
from liquidgen.latents.manifest import Split, read_manifest, write_manifest
from liquidgen.latents.shards import LatentDataset, write_shard
from liquidgen.models.model_folder import load_model
from liquidgen.runtime.signals import Interrupted
from liquidgen.stages.download.download import download
from liquidgen.stages.train.callbacks import CallbackLogger
from liquidgen.stages.train.checkpoint import checkpoints
from liquidgen.stages.train.export import export, train_scores
from liquidgen.stages.train.preview import COLUMNS, preview_grid
from liquidgen.stages.train.trainer import Trainer
from liquidgen.tracking.run_file import RUN, read_run
from liquidgen.utils.errors import UserError

TRAINING_LATENTS, STEPS = 143, 8  # of which an epoch has so many steps
COSMETIC = {"num_epochs", "checkpoint_every", "log_every", "validate_every", "preview_every"}


@pytest.fixture(scope="module")
def latents(tmp_path_factory):
    """Procedural paintings through the builtin autoencoder: 143 latents and 17 held out."""
    folder = tmp_path_factory.mktemp("latents")
    dataset = ProceduralSettings(
        kind="procedural", num_images=160, render_size=SIDE, seed=0, holdout_fraction=0.1
    )
    download(dataset, PARAMS.download, folder / "raw", num_workers=0)
    encoded(folder / "raw", folder / "latents", SIDE)
    return folder / "latents"


def never():
    """Not interrupted."""


class Broken:
    """A callback that fails at everything."""

    def log_metrics(self, metrics, step):
        raise OSError("the drive is full")

    def log_image(self, image, key, step):
        raise RuntimeError("no display")


def test_an_onlooker_that_fails_is_warned_of_once_and_stops_nothing(tmp_path, latents, caplog):
    training, log, other = prepare(tmp_path, latents, num_epochs=1), Points(), Points()
    watched = CallbackLogger(log, [Broken(), other, Broken()])
    trainer = train(training, watched)
    watched.log_image("picture", "preview", STEPS)
    assert trainer.learner.step == STEPS
    assert checkpoints(training.folder)[-1][0] == STEPS
    assert log.metrics == other.metrics
    assert log.images == other.images == [(STEPS, "preview", "picture")]
    assert [record.getMessage() for record in caplog.records] == 2 * [
        "callback Broken failed (OSError: the drive is full); the training goes on, and this is "
        "said once"
    ]


def test_what_fails_in_the_record_itself_is_no_onlookers_fault():
    with pytest.raises(OSError, match="full"):
        CallbackLogger(Broken(), [Points()]).log_metrics({}, 1)


def test_a_training_notes_its_run_before_it_begins_and_remembers_the_stores_name(latents, tmp_path):
    training = prepare(tmp_path, latents)
    training.tracking_folder.mkdir(parents=True)  # as far as a full disk lets it come
    assert training.run_id() == prepare(tmp_path, latents).run_id()
    assert training.run_id() != prepare(tmp_path, latents, num_epochs=1).run_id()
    training.remember_run("abc")
    assert training.run_id() == "abc"


DAMAGED = [b"", b'{"run_id": "0123', b'{"run": "abc"}', b'{"run_id": 5}', b"[]", b"\xff"]


@pytest.mark.parametrize("content", DAMAGED)
def test_a_damaged_note_of_the_run_is_one_line(latents, tmp_path, caplog, content):
    training = prepare(tmp_path, latents)
    training.tracking_folder.mkdir(parents=True)
    note = training.tracking_folder / RUN
    note.write_bytes(content)
    with pytest.raises(UserError, match=f"^{note}: damaged; .*dvc repro"):  # as sample reads it
        read_run(note.parent)
    run_id = training.run_id()
    assert run_id == training.run_id()
    assert [f"{note}: damaged" in message for message in caplog.messages] == [True]


def with_values(folder, source, change):
    """A copy of a folder of latents whose training latents `change` alters."""
    shutil.copytree(source, folder)
    manifest, dataset = read_manifest(source), LatentDataset(source, "train")
    values = dataset.batch(range(len(dataset)))[0].numpy().astype(np.float16)
    change(values)
    old = manifest.splits["train"]
    [name] = [shard.name for shard in old.shards]
    shard = write_shard(folder / name, values, dataset.labels)
    train_split = Split(**old.model_dump(exclude={"shards"}), shards=(shard,))
    splits = manifest.splits | {"train": train_split}
    write_manifest(folder, manifest.model_copy(update={"splits": splits}))
    return folder


def test_the_loss_falls_on_real_latents(tmp_path, latents):
    trainer = train(prepare(tmp_path, latents, num_epochs=12))
    losses = [row["validation_loss"] for row in trainer.progress.curve]
    assert len(losses) == 12
    assert losses[-1] < 0.9 * losses[0]
    assert trainer.progress.curve[-1]["loss"] < 0.9 * trainer.progress.curve[0]["loss"]


@pytest.mark.parametrize("at", [1, STEPS - 1, STEPS, STEPS + 4])
def test_an_interrupted_training_ends_bitwise_as_an_uninterrupted_one(tmp_path, latents, at):
    straight = train(prepare(tmp_path / "straight", latents))
    training = prepare(tmp_path / "interrupted", latents)
    order = [batch.tolist() for batch in Trainer(training, CPU).remaining_batches()]
    assert stop(training, at) == f"stopped at step {at}, all progress is saved"
    rest = Trainer(training, CPU).remaining_batches()
    assert [batch.tolist() for batch in rest] == order[at:]
    assert_same_end(train(training), straight)


@pytest.mark.parametrize("at", [STEPS, 2 * STEPS])
@pytest.mark.parametrize("left", ["validation", "preview"])
def test_a_stop_leaves_a_validation_and_a_preview_for_the_next_start(tmp_path, latents, at, left):
    class Stopping(Points):
        def log_metrics(self, metrics, step):
            self.stop_at = at if left == "validation" or "validation_loss" in metrics else None
            super().log_metrics(metrics, step)

    training, log, rest = prepare(tmp_path, latents, preview_every=1), Stopping(), Points()
    with pytest.raises(KeyboardInterrupt, match=f"stopped at step {at},"), training.locked():
        Trainer(training, CPU).run(log)
    assert (at in log.steps_of("validation_loss")) == (left == "preview")
    assert at not in [step for step, _, _ in log.images]
    trainer = train(training, rest)
    assert [row["epoch"] for row in trainer.progress.curve] == [1, 2]
    assert (at in rest.steps_of("validation_loss")) == (left == "validation")
    assert [step for step, _, _ in rest.images] == list(range(at, 2 * STEPS + 1, STEPS))
    straight = train(prepare(tmp_path / "straight", latents))
    assert_same_end(trainer, straight)


def test_an_epoch_visits_every_sample_at_most_once(tmp_path, latents):
    training = prepare(tmp_path, latents, batch_size=25, num_epochs=3)
    seen = [batch.tolist() for batch in Trainer(training, CPU).remaining_batches()]
    assert training.last_step == len(seen) == 3 * (TRAINING_LATENTS // 25)
    for epoch in range(3):
        visited = np.concatenate(seen[5 * epoch : 5 * epoch + 5])
        assert len(set(visited.tolist())) == 125
    assert seen[:5] != seen[5:10]


def test_signals_are_the_callers_again_after_training(tmp_path, latents):
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    training = prepare(tmp_path, latents)
    stop(training, at=1)
    train(training)
    assert [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)] == before


def test_more_epochs_continue(tmp_path, latents):
    train(prepare(tmp_path, latents, num_epochs=1))
    log = Points()
    longer = train(prepare(tmp_path, latents, num_epochs=3), log)
    assert log.steps_of("loss") == list(range(STEPS + 1, 3 * STEPS + 1))
    assert_same_end(longer, train(prepare(tmp_path / "other", latents, num_epochs=3)))


def test_fewer_epochs_take_the_earlier_checkpoint_and_keep_the_later_one(tmp_path, latents):
    short = train(prepare(tmp_path, latents, num_epochs=1))
    train(prepare(tmp_path, latents, num_epochs=2))
    log = Points()
    assert_same_end(train(prepare(tmp_path, latents, num_epochs=1), log), short)
    assert log.metrics == []
    assert [step for step, _ in checkpoints(short.training.folder)] == [STEPS, 2 * STEPS]


def test_fewer_epochs_may_end_where_a_longer_training_was_stopped(tmp_path, latents):
    stop(prepare(tmp_path, latents, num_epochs=3, validate_every=3), at=STEPS)
    trainer = train(prepare(tmp_path, latents, num_epochs=1, validate_every=3))
    assert [row["epoch"] for row in trainer.progress.curve] == [1]
    assert train_scores(trainer)["num_steps"] == STEPS


def test_a_finished_training_reports_the_same_figures_again(tmp_path, latents):
    training = prepare(tmp_path, latents)
    first = train_scores(train(training))
    log = Points()
    assert train_scores(train(training, log)) == first
    assert log.metrics == log.images == []
    assert first["num_images"] == 2 * STEPS * 16
    assert first["images_per_second"] == first["num_images"] / first["seconds"]


def test_time_counts_over_an_interruption(tmp_path, latents):
    training = prepare(tmp_path, latents)
    stop(training, at=5)
    before = Trainer(training, CPU).progress.seconds
    after = train(training).progress.seconds
    assert 0 < before < after


def other(name, value):
    """Another allowed value of a setting."""
    match value:
        case bool():
            return not value
        case int():
            return value + 1
        case float():
            return value / 2
        case list():
            return [0.5, 0.5]
    allowed = get_args(TrainSettings.model_fields[name].annotation)
    return next(choice for choice in allowed if choice != value)


@pytest.mark.parametrize("name", TrainSettings.model_fields)
def test_settings_that_matter_have_another_folder(tmp_path, latents, name):
    settings = PARAMS.train.model_copy(update=SMALL)
    before = prepare(tmp_path, latents).folder
    after = prepare(tmp_path, latents, **{name: other(name, getattr(settings, name))}).folder
    assert (before == after) == (name in COSMETIC)


def test_another_network_or_other_latents_have_another_folder(tmp_path, latents):
    changed = with_values(tmp_path / "latents", latents, lambda values: values.sort(axis=0))
    folders = {
        prepare(tmp_path, latents).folder,
        prepare(tmp_path, latents, model=MODEL.model_copy(update={"width": 48})).folder,
        prepare(tmp_path, latents, block={"kernel_size": 3}).folder,
        prepare(tmp_path, changed).folder,
    }
    assert len(folders) == 4
    assert {folder.parent for folder in folders} == {tmp_path}


KEYS = """
import sys
from pathlib import Path
sys.path.insert(0, "tests")
from helpers.training import prepare
import liquidgen
root, latents = Path(liquidgen.__file__).parent, Path(sys.argv[1])
def edit(name, old, new):
    text = (root / name).read_text()
    assert old in text, (name, old)
    (root / name).write_text(text.replace(old, new, 1))
key = lambda: prepare(Path("keys"), latents).folder.name
print(key())
edit("stages/train/learner.py", "Trains a network", "A new docstring for a network")
edit("flow/matching.py", "import torch", "import torch  # with a comment")
(root / "models/blocks/another.py").write_text("a_block_that_is_not_selected = 1")
print(key())
edit("flow/matching.py", "return uniforms", "return uniforms.square()")
print(key())
edit("models/blocks/liquid.py", "self.mlp(h)", "2 * self.mlp(h)")
print(key())
"""


def test_only_code_that_computes_changes_the_folder(tmp_path, latents):
    for name in ("liquidgen", "tests"):
        shutil.copytree(name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy("params.yaml", tmp_path)
    command = [sys.executable, "-c", KEYS, str(latents)]
    done = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, env=environment(tmp_path)
    )
    assert done.returncode == 0, done.stderr
    start, comment, flow, block = done.stdout.split()
    assert start == comment
    assert len({start, flow, block}) == 3


def environment(root):
    return os.environ | {"PYTHONPATH": str(root)}


def test_a_damaged_newest_checkpoint_costs_a_warning_and_its_steps(tmp_path, latents, caplog):
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


def test_a_second_trainer_is_refused_in_one_line(tmp_path, latents, monkeypatch):
    monkeypatch.setattr("liquidgen.stages.train.run_state.PATIENCE", 0.5)
    training = prepare(tmp_path, latents)
    with training.locked():
        with pytest.raises(UserError, match="another process trains here") as error:
            train(prepare(tmp_path, latents))
        assert str(error.value).startswith(str(training.folder))
        assert "\n" not in str(error.value)
    train(training)  # the lock is free again


def test_a_trainer_waits_for_one_that_is_about_to_stop(tmp_path, latents):
    training = prepare(tmp_path, latents, num_epochs=1)
    command = "import sys, time, pathlib, liquidgen.utils.files\n"
    command += "with liquidgen.utils.files.locked(pathlib.Path(sys.argv[1]), 'trains'):\n    "
    command += "print(flush=True)\n    time.sleep(2)"
    with subprocess.Popen(
        [sys.executable, "-c", command, str(training.folder)], stdout=subprocess.PIPE
    ) as other:
        other.stdout.readline()
        train(training)


PROCESS = """
import json, sys
sys.path.insert(0, "tests")
from pathlib import Path
from helpers.training import CPU, Points, Trainer, prepare
folder, latents, changes = sys.argv[1:]
training = prepare(Path(folder), Path(latents), **json.loads(changes))
with training.locked():
    Trainer(training, CPU).run(Points())
"""


def wait_for(condition, seconds=120):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


def is_free(training):
    try:
        with training.locked():
            return True
    except UserError:
        return False


@pytest.mark.parametrize("how", ["SIGTERM", "death of the parent"])
def test_a_process_that_is_told_to_stop_saves_and_exits(tmp_path, latents, how):
    changes = {"num_epochs": 100_000, "checkpoint_every": 0.2}
    training = prepare(tmp_path, latents, **changes)
    trainer = [sys.executable, "-c", PROCESS, str(tmp_path), str(latents), json.dumps(changes)]
    shell = ["sh", "-c", '"$@" & wait', "sh", *trainer]
    process = subprocess.Popen(
        trainer if how == "SIGTERM" else shell,
        env=environment("."),
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_for(lambda: len(checkpoints(training.folder)) == 2)
    seen = checkpoints(training.folder)[-1][0]
    process.send_signal(signal.SIGTERM if how == "SIGTERM" else signal.SIGKILL)
    _, output = process.communicate(timeout=30)  # the trainer holds the pipe until it ends
    last = output.splitlines()[-1]
    wait_for(lambda: is_free(training))
    saved = checkpoints(training.folder)[-1][0]
    assert last == f"KeyboardInterrupt: stopped at step {saved}, all progress is saved"
    assert saved >= seen
    if how == "SIGTERM":
        assert process.returncode == 1


def test_a_batch_that_is_not_finite_is_skipped_and_counted(tmp_path, latents):
    def spoil(values):
        values[5, 0, 0, 0] = np.inf

    broken = with_values(tmp_path / "latents", latents, spoil)
    trainer = train(prepare(tmp_path, broken, num_epochs=3))
    scores = train_scores(trainer)
    assert scores["skipped_steps"] == 3  # the batch with sample 5, each epoch
    assert scores["num_steps"] == 3 * STEPS
    assert all(np.isfinite(value) for value in scores.values())
    tensors, facts = trainer.learner.state()
    assert all(value.isfinite().all() for value in tensors.values())
    assert facts["ema_step"] == 3 * STEPS - 3


@pytest.mark.parametrize(("num_epochs", "batch_size", "steps"), [(2, 16, 10), (1, 47, 3)])
def test_ten_broken_steps_in_a_row_or_nothing_else_stop(
    tmp_path, latents, num_epochs, batch_size, steps
):
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

    class Watching(Points):
        def log_metrics(self, metrics, step):
            self.metrics.append([found for found, _ in checkpoints(training.folder)])

    log = Watching()
    train(training, log)
    assert log.metrics[:4] == [[1], [1, 2], [2, 3], [3, 4]]


def test_losses_are_logged_as_often_as_asked_and_at_the_end(tmp_path, latents):
    log = Points()
    train(prepare(tmp_path, latents, num_epochs=3, log_every=5, validate_every=2), log)
    assert log.steps_of("loss") == [5, 10, 15, 20, 24]
    assert log.steps_of("validation_loss") == [2 * STEPS, 3 * STEPS]
    assert log.images == []


def test_a_preview_has_a_row_a_class(tmp_path, latents):
    log = Points()
    train(prepare(tmp_path, latents, num_epochs=1, preview_every=1), log)
    [(step, key, image)] = log.images
    assert (step, key) == (STEPS, "preview")
    assert image.height == CLASSES * (SIDE + 2) - 2
    assert image.width > COLUMNS * (SIDE + 2)  # the names are at the left
    grid = image.crop((image.width - COLUMNS * (SIDE + 2) + 2, 0, image.width, image.height))
    assert len(np.unique(np.asarray(grid).reshape(-1, 3), axis=0)) > 1000


def test_a_preview_gives_the_memory_of_its_autoencoder_back(tmp_path, latents, monkeypatch):
    def load(*arguments):
        autoencoder = load_autoencoder(*arguments)
        loaded.append(weakref.ref(autoencoder.model))
        return autoencoder

    loaded, given_back = [], []
    monkeypatch.setattr("liquidgen.latents.autoencoder.load_autoencoder", load)
    monkeypatch.setattr(
        "liquidgen.stages.train.preview.empty_cache",
        lambda device: given_back.append((device, loaded[-1]())),
    )
    trainer = Trainer(prepare(tmp_path, latents), CPU)
    preview_grid(trainer.learner, trainer.training.dataset.contract, None, never)
    assert given_back == [(CPU, None)]


def test_a_stop_waits_for_a_row_of_a_preview_to_be_decoded_not_for_all(
    tmp_path, latents, monkeypatch
):
    def noted(autoencoder, latents):
        decoded.append(len(latents))
        return decode(autoencoder, latents)

    def check():
        if decoded:
            raise Interrupted

    decoded, decode = [], Autoencoder.decode
    monkeypatch.setattr(Autoencoder, "decode", noted)
    trainer = Trainer(prepare(tmp_path, latents), CPU)
    dataset = trainer.training.dataset
    with pytest.raises(Interrupted):
        preview_grid(trainer.learner, dataset.contract, dataset.classes, check)
    assert decoded == [COLUMNS]


def test_a_preview_leaves_the_training_as_it_was(tmp_path, latents):
    seen = train(prepare(tmp_path / "seen", latents, num_epochs=1, preview_every=1))
    assert_same_end(seen, train(prepare(tmp_path, latents, num_epochs=1)))


def test_a_preview_without_classes_is_a_square(tmp_path, latents):
    trainer = Trainer(prepare(tmp_path, latents), CPU)
    image = preview_grid(trainer.learner, trainer.training.dataset.contract, None, never)
    assert image.size == (COLUMNS * (SIDE + 2) - 2,) * 2


def other_contract(folder, source):
    """A copy of a folder of latents that names other autoencoder weights."""
    shutil.copytree(source, folder)
    manifest = read_manifest(source)
    contract = manifest.contract.model_copy(update={"autoencoder_digest": "f" * 64})
    write_manifest(folder, manifest.model_copy(update={"contract": contract}))
    return folder


def test_another_autoencoder_is_refused_before_training(tmp_path, latents):
    with pytest.raises(UserError, match="latents were made with ffffffffffff") as error:
        prepare(tmp_path, other_contract(tmp_path / "latents", latents))
    assert "\n" not in str(error.value)


def test_another_autoencoder_is_refused_by_a_preview(tmp_path, latents):
    trainer = Trainer(prepare(tmp_path, latents), CPU)
    contract = read_manifest(other_contract(tmp_path / "latents", latents)).contract
    with pytest.raises(UserError, match="latents were made with ffffffffffff"):
        preview_grid(trainer.learner, contract, None, never)


def test_damaged_latents_are_refused_before_training(tmp_path, latents):
    folder = shutil.copytree(latents, tmp_path / "latents")
    path = folder / "train-00000.tar"
    data = bytearray(path.read_bytes())
    data[3000] ^= 1
    path.write_bytes(data)
    with pytest.raises(UserError, match=r"train-00000\.tar: damaged"):
        prepare(tmp_path, folder)


def test_a_network_that_torch_cannot_compile_is_one_line(tmp_path, latents, monkeypatch):
    def without_compiler(graph, inputs):
        raise RuntimeError("no C++ compiler")

    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=without_compiler))
    with pytest.raises(UserError) as error:
        train(prepare(tmp_path, latents, compile=True))
    message = str(error.value)
    assert message.startswith("train.compile: torch cannot compile the network here (")
    assert message.endswith("no C++ compiler); install what is missing, or set it to false")
    assert "\n" not in message


def test_fewer_latents_than_a_batch_are_refused(tmp_path, latents):
    with pytest.raises(UserError, match=r"train\.batch_size: 144, but there are only 143"):
        prepare(tmp_path, latents, batch_size=144)


def test_the_averaged_weights_and_the_curve_are_exported(tmp_path, latents):
    trainer = train(prepare(tmp_path, latents))
    folder, metrics = tmp_path / "model", tmp_path / "metrics"
    export(trainer, folder, metrics, name="a-name", run_id="a-run")
    model, facts = load_model(folder)
    averages = trainer.learner.ema.shadow_params
    for (name, value), average in zip(model.named_parameters(), averages, strict=True):
        assert torch.equal(value, average), name
    assert (facts.name, facts.num_epochs, facts.num_steps) == ("a-name", 2, 2 * STEPS)
    assert facts.parameters == sum(value.numel() for value in model.parameters())
    assert json.loads((metrics / "train.json").read_bytes()) == train_scores(trainer)
    header, *rows = (metrics / "train.csv").read_text().splitlines()
    assert header.startswith("epoch,loss,validation_loss,validation_loss_t0.00-0.25,")
    assert [row.split(",")[0] for row in rows] == ["1.0", "2.0"]


IMPORTED = """
import sys
import stages.train
print(*sorted(sys.modules))
"""


def test_training_imports_neither_samplers_nor_metrics_nor_mlflow():
    done = subprocess.run(
        [sys.executable, "-c", IMPORTED], capture_output=True, text=True, env=environment(".")
    )
    assert done.returncode == 0, done.stderr
    loaded = set(done.stdout.split())
    never = {"samplers", "sample", "pipeline", "features", "metrics", "evaluate", "encode"}
    assert not loaded & {f"liquidgen.{name}" for name in never}
    assert not loaded & {"mlflow", "sklearn", "torchmetrics", "webdataset", "datasets", "pyarrow"}
    assert "liquidgen.stages.train.trainer" in loaded
