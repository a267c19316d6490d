"""The learning rate over a training, and what trainings of other lengths share with it."""

import pytest
from helpers.training import CPU, MemoryLog, assert_same_end, prepare, stop, train

from liquidgen.stages.train.checkpoint import checkpoints
from liquidgen.stages.train.optimizers import DECAYS, Decay, Schedule
from liquidgen.stages.train.trainer import Trainer

STEPS = 8  # of an epoch
HALF = {"learning_rate_decay": "linear", "decay_fraction": 0.5, "validate_every": 4}


def factors(schedule, steps):
    return [schedule.factor(step) for step in range(steps)]


def rates(training):
    log = MemoryLog()
    train(training, log)
    return {step: metrics["learning_rate"] for step, metrics in log.metrics if "loss" in metrics}


def test_constant_rate_after_warm_up():
    assert factors(Schedule(warmup_steps=2), 4) == [0.5, 1, 1, 1]
    assert factors(Schedule(warmup_steps=0), 2) == [1, 1]


def test_linear_decay_takes_equal_steps_to_zero():
    schedule = Schedule(2, Decay("linear", start=4, end=7))
    assert factors(schedule, 7) == pytest.approx([0.5, 1, 1, 1, 0.75, 0.5, 0.25])


def test_cosine_decay_is_slow_at_both_ends():
    schedule = Schedule(0, Decay("cosine", start=0, end=3))
    assert factors(schedule, 3) == pytest.approx([0.8535534, 0.5, 0.1464466])


@pytest.mark.parametrize("shape", DECAYS)
def test_decay_falls_at_each_step_and_never_stands_still(shape):
    decay = factors(Schedule(0, Decay(shape, start=0, end=50)), 50)
    assert decay[0] < 1
    assert decay[-1] > 0
    assert decay == sorted(decay, reverse=True)


def test_training_decays_over_its_last_steps(tmp_path, latents):
    found = rates(prepare(tmp_path, latents, learning_rate=1.0, warmup_steps=0, **HALF))
    assert found[STEPS] == 1.0
    assert found[STEPS + 1] == pytest.approx(STEPS / (STEPS + 1))
    assert found[2 * STEPS] == pytest.approx(1 / (STEPS + 1))


@pytest.mark.parametrize("at", [STEPS - 1, STEPS, STEPS + 1, 2 * STEPS])
def test_interrupted_decay_ends_bitwise_equal(tmp_path, latents, at):
    straight = train(prepare(tmp_path / "straight", latents, **HALF))
    training = prepare(tmp_path / "interrupted", latents, **HALF)
    assert stop(training, at) == f"stopped at step {at}, all progress is saved"
    assert Trainer(training, CPU).learner.step == at
    assert_same_end(train(training), straight)


def test_more_epochs_continue_from_where_the_decay_began(tmp_path, latents):
    short = train(prepare(tmp_path, latents, num_epochs=2, **HALF))
    log = MemoryLog()
    longer = train(prepare(tmp_path, latents, num_epochs=4, **HALF), log)
    assert log.steps_of("loss") == list(range(STEPS + 1, 4 * STEPS + 1))
    assert_same_end(longer, train(prepare(tmp_path / "other", latents, num_epochs=4, **HALF)))
    # and the shorter one is not lost
    log = MemoryLog()
    assert_same_end(train(prepare(tmp_path, latents, num_epochs=2, **HALF), log), short)
    assert log.metrics == []


def test_constant_training_is_where_a_decay_begins(tmp_path, latents):
    train(prepare(tmp_path, latents, num_epochs=1, validate_every=4))
    log = MemoryLog()
    trainer = train(prepare(tmp_path, latents, num_epochs=2, **HALF), log)
    assert log.steps_of("loss")[0] == STEPS + 1
    # and goes on without a decay: its end is untouched
    log = MemoryLog()
    train(prepare(tmp_path, latents, num_epochs=2, validate_every=4), log)
    assert log.steps_of("loss") == list(range(STEPS + 1, 2 * STEPS + 1))
    assert checkpoints(trainer.training.ending_folder)[-1][0] == 2 * STEPS


def test_damaged_end_goes_back_to_the_start_of_the_decay(tmp_path, latents, caplog):
    training = prepare(tmp_path, latents, **HALF)
    straight = train(training)
    for _, path in checkpoints(training.ending_folder):
        path.write_bytes(b"damaged")
    assert_same_end(train(training), straight)
    assert f"going back to step {STEPS}" in caplog.text


def test_weights_of_a_decay_are_recorded_as_such(tmp_path, latents):
    constant = prepare(tmp_path, latents)
    decaying = prepare(tmp_path, latents, **HALF)
    assert decaying.folder == constant.folder
    assert decaying.ending_folder != constant.ending_folder
    recorded = {"learning_rate_decay": "linear", "decay_fraction": 0.5}
    assert decaying.recipe == constant.recipe | recorded
    assert constant.recipe.keys().isdisjoint(recorded)


def test_journals_of_a_slower_rate_are_not_inherited(tmp_path, latents):
    """A point of a decay that this training did not make is no part of its curve."""
    lengths = [prepare(tmp_path, latents, num_epochs=n, **HALF) for n in (1, 2)]
    lengths.append(prepare(tmp_path, latents, num_epochs=1))
    for training in lengths:
        training.ending_folder.mkdir(parents=True)
        (training.ending_folder / "metrics.jsonl").touch()
    names = [path.parent.name for path in lengths[0].earlier_journals(STEPS)]
    assert names == ["epochs-1", f"linear-{STEPS}-{2 * STEPS}"]
