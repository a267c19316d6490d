"""One training step, and the state that the next one depends on."""

import os
import shutil
from functools import partial
from itertools import pairwise
from pathlib import Path

import pytest
import torch

from liquidgen.config.params import load_params
from liquidgen.models.liquidnet import LiquidNet
from liquidgen.stages.train.checkpoint import load_checkpoint, save_checkpoint
from liquidgen.stages.train.learner import Learner
from liquidgen.utils.errors import UserError
from liquidgen.utils.workers import Threads

PARAMS = load_params(Path("params.yaml"))
CPU = torch.device("cpu")
CLASSES = 3


def learner(patch_size=1, **changes):
    """Return a small learner with the settings of params.yaml but for `changes`."""
    torch.manual_seed(0)
    network = LiquidNet(
        in_channels=4,
        sample_size=8,
        num_classes=CLASSES,
        width=32,
        depth=2,
        cond_dim=32,
        patch_size=patch_size,
        block=PARAMS.selectors.block,
        block_settings=PARAMS.block,
    )
    fixed = {"precision": "fp32", "warmup_steps": 3, "learning_rate": 6e-3}
    return Learner(network, PARAMS.train.model_copy(update=fixed | changes), CPU)


def batches(count, seed=0, size=8):
    # other seeds than the learner's, whose noise the latents would equal
    random = torch.Generator().manual_seed(1000 + seed)
    return [
        (
            torch.randn(size, 4, 8, 8, generator=random),
            torch.randint(0, CLASSES, (size,), generator=random),
        )
        for _ in range(count)
    ]


def trained(steps, **changes):
    one = learner(**changes)
    for batch in batches(steps):
        one.train_step(*batch)
    return one


def snapshot(one):
    return {name: value.clone() for name, value in one.state()[0].items()}


def assert_equal(one, other):
    """Assert bitwise equality of all tensors."""
    assert one.keys() == other.keys()
    assert [name for name in one if not torch.equal(one[name], other[name])] == []


def test_equal_steps_are_bitwise_equal():
    assert_equal(snapshot(trained(4)), snapshot(trained(4)))


def test_batches_may_be_prepared_ahead_by_a_thread():
    one = learner()
    with Threads(1) as ahead:
        for batch in ahead.map(lambda item: one.prepare(item[0], *item[1]), enumerate(batches(6))):
            one.train_on(batch)
    assert_equal(snapshot(one), snapshot(trained(6)))


def test_seeds_give_different_noise():
    losses = {
        learner(seed=seed).train_step(*batches(1)[0])[0] for seed in (0, 1, 2, 2**31, 2**32 - 1)
    }
    assert len(losses) == 5


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
@pytest.mark.parametrize("channels_last", [True, False])
@pytest.mark.parametrize("patch_size", [1, 2])
@pytest.mark.parametrize("steps", [0, 1, 5])
def test_restored_learner_continues_bitwise(tmp_path, optimizer, channels_last, patch_size, steps):
    shape = {"optimizer": optimizer, "channels_last": channels_last, "patch_size": patch_size}
    straight, first, second = (learner(**shape) for _ in range(3))
    data = batches(8)
    for batch in data:
        straight.train_step(*batch)
    for batch in data[:steps]:
        first.train_step(*batch)
    save_checkpoint(tmp_path, first.step, *first.state())
    second.load_state(*load_checkpoint(tmp_path, last_step=8))
    for batch in data[steps:]:
        second.train_step(*batch)
    assert_equal(snapshot(second), snapshot(straight))
    assert second.state()[1] == straight.state()[1]


def test_restored_learner_keeps_memory_layout():
    first = trained(2, patch_size=2)
    second = learner(patch_size=2)
    second.load_state(*first.state())
    for (name, one), (_, other) in zip(
        first.model.named_parameters(), second.model.named_parameters(), strict=True
    ):
        assert one.stride() == other.stride(), name
        moments = second.optimizer.state[other]
        strides = {value.stride() for key, value in moments.items() if key != "step"}
        assert strides == {one.stride()}, name
    assert first.model.patch_embedding.weight.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_nonfinite_loss_changes_nothing(value):
    one = trained(3)
    before = snapshot(one)
    bad, labels = batches(1, seed=1)[0]
    bad[0, 0, 0, 0] = value
    loss, _ = one.train_step(bad, labels)
    assert not torch.isfinite(torch.tensor(loss))
    assert_equal(snapshot(one), before)
    assert (one.step, one.state()[1]["ema_step"]) == (4, 3)
    loss, norm = one.train_step(*batches(1, seed=2)[0])
    assert torch.isfinite(torch.tensor([loss, norm])).all()
    assert not torch.equal(one.state()[0]["ema.out_mix.weight"], before["ema.out_mix.weight"])


def test_nonfinite_gradient_changes_nothing():
    """Although the loss is finite."""
    one = trained(3)
    before = snapshot(one)
    one.model.out_mix.bias.register_hook(lambda gradient: gradient * torch.inf)
    loss, norm = one.train_step(*batches(1, seed=1)[0])
    assert torch.isfinite(torch.tensor(loss))
    assert not torch.isfinite(torch.tensor(norm))
    assert_equal(snapshot(one), before)


def test_loss_scaling_skips_until_scale_fits():
    one = learner()
    one.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**127)  # the loss overflows at first
    before = snapshot(one)
    data = [(300 * latents, labels) for latents, labels in batches(16)]
    while not torch.isfinite(torch.tensor(one.train_step(*data[one.step])[1])):
        assert_equal(snapshot(one), before)
    skipped = one.step - 1
    assert skipped > 0
    assert one.state()[1]["ema_step"] == 1
    assert one.scaler.get_scale() == 2.0 ** (127 - skipped)
    assert snapshot(one).keys() > before.keys()  # now with moments


def half(init_scale):
    """Return a learner in fp16 with loss scaling, as on a GPU without bf16."""
    one = learner()
    one.dtype = torch.float16
    one.scaler = torch.amp.GradScaler("cpu", init_scale=init_scale)
    return one


def test_fp16_stays_close_to_fp32():
    exact = learner()
    rounded = half(2.0**16)
    losses = [(exact.train_step(*b)[0], rounded.train_step(*b)[0]) for b in batches(10)]
    assert all(one == pytest.approx(other, rel=0.003) for one, other in losses)
    assert losses[-1][0] != losses[-1][1]
    assert {value.dtype for value in rounded.state()[0].values()} == {torch.float32}


def test_fp16_recovers_from_gradient_overflow():
    one = half(2.0**30)  # fp16 ends at 2**16
    before = snapshot(one)
    data = batches(16)
    while not torch.isfinite(torch.tensor(one.train_step(*data[one.step])[1])):
        assert_equal(snapshot(one), before)
    assert one.step > 1
    assert one.scaler.get_scale() == 2.0 ** (31 - one.step)
    rest = torch.tensor([one.train_step(*batch) for batch in data[one.step :]])
    assert rest[-3:].isfinite().all()  # it may overflow once more as the first weights leave zero


def test_restored_fp16_learner_continues_bitwise(tmp_path):
    straight = half(2.0**30)
    first = half(2.0**30)
    second = half(2.0**16)
    data = batches(12)
    for batch in data:
        straight.train_step(*batch)
    for batch in data[:4]:  # these still overflow because of the scale
        first.train_step(*batch)
    save_checkpoint(tmp_path, first.step, *first.state())
    second.load_state(*load_checkpoint(tmp_path, last_step=12))
    assert second.scaler.get_scale() == 2.0**26
    for batch in data[4:]:
        second.train_step(*batch)
    assert_equal(snapshot(second), snapshot(straight))
    assert second.state()[1] == straight.state()[1]


@pytest.mark.parametrize("scaled_first", [True, False])
def test_state_moves_between_precisions(scaled_first):
    first = trained(2)
    second = learner()
    (first if scaled_first else second).scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
    second.load_state(*first.state())
    second.train_step(*batches(1)[0])
    assert second.step == 3


def test_gradients_are_clipped_to_largest_norm():
    one = learner(grad_clip=1e-3, optimizer="adamw")  # whose first moment tells the gradient
    _, norm = one.train_step(*batches(1)[0])
    assert norm > 0.1  # as it was before clipping
    moments = [one.optimizer.state[p]["exp_avg"] for p in one.model.parameters()]
    length = torch.cat([moment.flatten() for moment in moments]).norm().item()
    beta = PARAMS.train.betas[0]
    assert length / (1 - beta) == pytest.approx(1e-3, rel=1e-3)


def test_small_gradients_are_not_clipped():
    one = learner(grad_clip=1e3)
    other = learner(grad_clip=1e6)
    assert one.train_step(*batches(1)[0]) == other.train_step(*batches(1)[0])
    assert_equal(snapshot(one), snapshot(other))


def test_ema_warms_up_to_its_decay():
    decay = 0.6
    one = learner(ema_decay=decay)
    name = "condition.time.linear_1.weight"
    expected = snapshot(one)[f"model.{name}"]
    for n, batch in enumerate(batches(20), start=1):
        one.train_step(*batch)
        weights = one.model.get_parameter(name).detach()
        average = one.state()[0][f"ema.{name}"]
        rate = min(decay, n / (n + 9)) if n > 1 else 0.0
        expected = rate * expected + (1 - rate) * weights
        torch.testing.assert_close(average, expected)
    assert decay < 20 / 29  # the cap was reached


def test_learning_rate_warms_up_linearly():
    one = learner(warmup_steps=4, learning_rate=1e-3)
    rates = []
    for batch in batches(6):
        one.train_step(*batch)
        rates += {group["lr"] for group in one.optimizer.param_groups}
    assert rates == pytest.approx([0.25e-3, 0.5e-3, 0.75e-3, 1e-3, 1e-3, 1e-3])


def test_learning_rate_without_warm_up_is_full():
    one = trained(1, warmup_steps=0, learning_rate=1e-3)
    assert one.optimizer.param_groups[0]["lr"] == 1e-3


@pytest.mark.parametrize(("rate", "untouched"), [(1.0, range(CLASSES)), (0.0, [CLASSES])])
def test_label_dropout_extremes_use_all_or_no_null_label(rate, untouched):
    one = learner(label_dropout=rate)
    before = one.model.condition.label.weight.detach().clone()
    for batch in batches(3, size=16):
        one.train_step(*batch)
    unchanged = (one.model.condition.label.weight == before).all(dim=1)
    assert unchanged.nonzero().flatten().tolist() == list(untouched)


def test_weight_decay_only_on_matrices_and_convolutions():
    after = {}
    for decay in (0.0, 0.5):
        one = learner(weight_decay=decay)
        random = torch.Generator().manual_seed(1)
        with torch.no_grad():  # some weights start at zero, which decay would not move
            for value in one.model.parameters():
                value.add_(0.01 * torch.randn(value.shape, generator=random))
        one.train_step(*batches(1)[0])
        after[decay] = dict(one.model.named_parameters())
    changed = {name for name, value in after[0.0].items() if not value.equal(after[0.5][name])}
    tables = {"position.weight", "condition.label.weight"}
    assert changed == {n for n, value in after[0.0].items() if value.ndim > 1} - tables


def test_bf16_stays_close_to_fp32():
    exact = learner()
    rounded = learner(precision="bf16")
    losses = [(exact.train_step(*b)[0], rounded.train_step(*b)[0]) for b in batches(10)]
    assert all(one == pytest.approx(other, rel=0.03) for one, other in losses)
    assert losses[-1][0] != losses[-1][1]
    assert {value.dtype for value in rounded.state()[0].values()} == {torch.float32}


def test_fp16_on_cpu_is_refused():
    with pytest.raises(UserError, match=r"train\.precision: fp16 needs a CUDA device") as error:
        learner(precision="fp16")
    assert "\n" not in str(error.value)


def test_gradient_checkpointing_steps_are_equal():
    assert_equal(snapshot(trained(3)), snapshot(trained(3, gradient_checkpointing=True)))


def test_memory_layouts_learn_the_same():
    plain = trained(3, channels_last=False)
    last = trained(3, channels_last=True)
    for name, value in plain.state()[0].items():
        torch.testing.assert_close(last.state()[0][name], value, rtol=1e-3, atol=2e-5)


def assert_learns_the_same(compiled):
    plain = learner()
    for batch in batches(3):
        expected, _ = plain.train_step(*batch)
        assert compiled.train_step(*batch)[0] == pytest.approx(expected, rel=1e-4)
    latents, labels = batches(1)[0]
    held_out = (latents, labels, torch.ones_like(latents), torch.rand(len(labels)))
    with plain.averaged(), compiled.averaged():
        torch.testing.assert_close(compiled.losses(*held_out), plain.losses(*held_out))


@pytest.mark.parametrize("parts", [2, 3, 8])
def test_accumulation_steps_match_whole_batch(parts):
    whole = trained(3)
    divided = trained(3, accumulation_steps=parts)
    for name, value in whole.state()[0].items():
        torch.testing.assert_close(divided.state()[0][name], value, rtol=1e-3, atol=2e-5)


def test_more_accumulation_steps_than_samples_refused():
    with pytest.raises(UserError, match=r"accumulation_steps: 9.*batch"):
        learner(batch_size=8, accumulation_steps=9)


def test_traced_network_learns_the_same(monkeypatch):
    # torch.compile without its last part, which compiles C++ and takes minutes
    traced = partial(torch.compile, backend="aot_eager", fullgraph=True)
    monkeypatch.setattr(torch, "compile", traced)
    assert_learns_the_same(learner(compile=True))


@pytest.mark.skipif("TEST_COMPILE" not in os.environ, reason="takes minutes; set TEST_COMPILE=1")
@pytest.mark.skipif(not shutil.which("g++"), reason="torch.compile needs a C++ compiler")
@pytest.mark.filterwarnings("ignore:`torch.jit.script_method`:DeprecationWarning")  # in torch
def test_compiled_network_learns_the_same():
    assert_learns_the_same(learner(compile=True))


def test_averaged_weights_only_within_context():
    one = trained(5)
    before = snapshot(one)
    with pytest.raises(KeyError), one.averaged() as model:  # noqa: PT012
        for name, value in model.named_parameters():
            assert torch.equal(value, before[f"ema.{name}"])
        assert not model.training
        raise KeyError
    assert_equal(snapshot(one), before)
    assert one.model.training


def test_losses_fall_on_fixed_batch():
    one = learner()
    latents, labels = batches(1)[0]
    losses = [one.train_step(latents, labels)[0] for _ in range(60)]
    thirds = [sum(losses[i : i + 20]) for i in (0, 20, 40)]
    assert all(later < earlier for earlier, later in pairwise(thirds))
