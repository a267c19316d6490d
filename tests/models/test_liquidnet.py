"""LiquidNet: shapes, sizes, initialization, storage, and cost."""

import math

import pytest
import torch
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from liquidgen.config.params import load_params
from liquidgen.models.blocks import BLOCK_TYPES, block_type
from liquidgen.models.layers.liquid import LiquidTimeConstant
from liquidgen.models.layers.resample import Downsample, Upsample
from liquidgen.models.liquidnet import LiquidNet
from liquidgen.utils.errors import UserError

BLOCKS = load_params().raw["blocks"]
SIZES = {
    size: load_params(changes={"model": size}).model.model_dump()
    for size in load_params().raw["models"]
}
LIQUID = BLOCKS["liquid"]
SIZES_IN_MILLIONS = {"nano": 1.8, "tiny": 8.7, "small": 54, "base": 139, "large": 282}
LEVELS = {"width": [32, 48, 64], "depth": [4, 2, 2]}
HEAD = {"attention": {"head_dim": 16}}  # divides the widths below
WIKIART = {"in_channels": 16, "sample_size": 32, "num_classes": 27}


def network(**changes):
    """Return a small network as initialized."""
    small = {"in_channels": 4, "sample_size": 8, "num_classes": 3, "width": 32, "depth": 4}
    small |= {"cond_dim": 24, "patch_size": 1, "block": "liquid", "block_settings": LIQUID}
    torch.manual_seed(0)
    return LiquidNet(**small | changes)


def moved(**changes):
    """Return a small network away from its initialization, where gates and velocity are 0."""
    model = network(**changes)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    return model


def inputs(batch=3, height=8, width=8, channels=4, device="cpu"):
    torch.manual_seed(1)
    x_t = torch.randn(batch, channels, height, width, device=device)
    labels = torch.arange(batch, device=device) % 3
    return x_t, torch.linspace(0.1, 0.9, batch, device=device), labels


def gradients(model, *arguments):
    model.zero_grad()
    model(*arguments).square().mean().backward()
    return {name: parameter.grad.clone() for name, parameter in model.named_parameters()}


def test_blocks_of_settings_are_the_block_types():
    assert set(BLOCK_TYPES) == set(BLOCKS)


@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize("size", SIZES)
def test_sizes_and_blocks_keep_the_shape(size, block):
    with torch.device("meta"):
        settings = {"block": block, "block_settings": BLOCKS[block]}
        model = LiquidNet(**WIKIART, **SIZES[size], **settings)
        for height, width in ((32, 32), (16, 16), (24, 40)):
            x_t, t, labels = inputs(2, height, width, channels=16, device="meta")
            assert model(x_t, t, labels).shape == x_t.shape


@pytest.mark.parametrize("size", SIZES_IN_MILLIONS)
def test_sizes_have_their_documented_parameters(size):
    latents = WIKIART | {"sample_size": 8 * SIZES[size]["patch_size"]}
    with torch.device("meta"):
        model = LiquidNet(**latents, **SIZES[size], block="liquid", block_settings=LIQUID)
    millions = model.num_parameters() / 1e6
    assert millions == pytest.approx(SIZES_IN_MILLIONS[size], rel=0.01)


@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize("patch_size", [1, 2, 4])
@pytest.mark.parametrize(("rows", "columns"), [(2, 2), (1, 1), (3, 5), (1, 7), (4, 2)])
def test_any_side_the_patch_divides_is_accepted(block, patch_size, rows, columns):
    model = moved(patch_size=patch_size, block=block, block_settings=BLOCKS[block])
    x_t, t, labels = inputs(2, rows * patch_size, columns * patch_size)
    velocity = model(x_t, t, labels)
    assert velocity.shape == x_t.shape
    assert velocity.isfinite().all()


def test_new_model_predicts_zero_velocity():
    assert torch.equal(network()(*inputs()), torch.zeros(3, 4, 8, 8))


@pytest.mark.parametrize("alpha", [0.5, 0.9, 0.98])
def test_new_block_is_pure_decay_of_its_state(alpha):
    model = network(block_settings=LIQUID | {"alpha_init": alpha})
    x = torch.randn(2, 32, 8, 8)
    cond = torch.randn(2, 24)
    for block in model.blocks:
        torch.testing.assert_close(block(x, cond), alpha**2 * x)


@pytest.mark.parametrize("block", BLOCKS)
def test_model_starts_near_identity(block):
    model = network(block=block, block_settings=BLOCKS[block])
    x = torch.randn(2, 32, 8, 8)
    cond = torch.randn(2, 24)
    for layer in model.blocks:
        assert F.cosine_similarity(layer(x, cond).flatten(1), x.flatten(1)).min() > 0.99


@pytest.mark.parametrize("block", BLOCKS)
def test_every_parameter_has_a_gradient(block):
    """Away from the zero initialization."""
    model = moved(block=block, block_settings=BLOCKS[block])
    for name, gradient in gradients(model, *inputs()).items():
        assert gradient.isfinite().all(), name
        assert gradient.abs().sum() > 0, name


def test_liquid_step_is_the_closed_form():
    step = LiquidTimeConstant(5, 0.9)
    torch.testing.assert_close(step.alpha, torch.full((5,), 0.9))
    with torch.no_grad():
        step.rho.copy_(torch.tensor([-3.0, -1, 0, 1, 3]))
    alpha = torch.tensor([math.exp(-math.log1p(math.exp(rho))) for rho in (-3, -1, 0, 1, 3)])
    assert alpha[2].item() == pytest.approx(0.5)
    state = torch.randn(2, 5, 3, 4)
    stimulus = torch.randn(2, 5, 3, 4)
    gate = torch.randn(2, 5, 1, 1)
    share = alpha[:, None, None]
    expected = share * state + (1 - share) * gate * stimulus
    torch.testing.assert_close(step(state, stimulus, gate), expected)


def test_scan_is_a_part_of_the_stimulus():
    scanned = moved(block_settings=LIQUID | {"scan_kernel_size": 7})
    plain = network(block_settings=LIQUID | {"scan_kernel_size": 0})
    weights = scanned.state_dict()
    scans = {name for name in weights if ".scan." in name}
    assert weights.keys() - scans == plain.state_dict().keys()
    plain.load_state_dict({name: weights[name] for name in weights.keys() - scans})
    arguments = inputs()
    assert not torch.allclose(scanned(*arguments), plain(*arguments), atol=1e-3)
    for name, gradient in gradients(scanned, *arguments).items():
        assert gradient.abs().sum() > 0, name
    with torch.no_grad():
        for block in scanned.blocks:
            block.scan.mix.weight.zero_()
            block.scan.mix.bias.zero_()
    torch.testing.assert_close(scanned(*arguments), plain(*arguments))


def test_skips_are_added_in_reverse_order():
    model = moved(depth=6)
    seen = []
    for block in model.blocks:
        block.register_forward_hook(lambda _, args, output: seen.append((args[0], output)))
    model(*inputs())
    for i in range(3):
        before, kept = seen[2 + i][1], seen[2 - i][1]
        torch.testing.assert_close(seen[3 + i][0], before + kept)


@pytest.mark.parametrize("block", BLOCKS)
def test_every_position_depends_on_every_other(block):
    model = moved(block=block, block_settings=BLOCKS[block])
    x_t, t, labels = inputs(1)
    x_t.requires_grad_()
    model(x_t, t, labels)[0, :, 7, 7].sum().backward()
    assert (x_t.grad.abs().sum(dim=1) > 0).all()


def test_null_label_depends_on_no_class():
    model = moved()
    x_t, t, labels = inputs()
    nulls = torch.full_like(labels, model.null_label)
    null = model(x_t, t, nulls)
    conditional = model(x_t, t, labels)
    assert not torch.allclose(null, conditional, atol=1e-3)
    with torch.no_grad():
        model.condition.label.weight[: model.null_label] = 0
    assert torch.equal(model(x_t, t, nulls), null)
    assert not torch.allclose(model(x_t, t, labels), conditional, atol=1e-3)


def test_unconditional_model_accepts_only_null_label():
    model = moved(num_classes=0)
    x_t, t, _ = inputs()
    assert model.null_label == 0
    assert model(x_t, t, torch.zeros(3, dtype=torch.long)).shape == x_t.shape
    with pytest.raises(IndexError):
        model(x_t, t, torch.ones(3, dtype=torch.long))


@pytest.mark.parametrize("block", BLOCKS)
def test_sample_does_not_depend_on_its_batch(block):
    model = moved(block=block, block_settings=BLOCKS[block])
    x_t, t, labels = inputs(4)
    together = model(x_t, t, labels)
    for i in range(4):
        one = slice(i, i + 1)
        torch.testing.assert_close(model(x_t[one], t[one], labels[one]), together[one])


def test_time_changes_the_velocity():
    model = moved()
    x_t, t, labels = inputs()
    assert not torch.allclose(model(x_t, t, labels), model(x_t, t / 2, labels), atol=1e-3)


@pytest.mark.parametrize("block", BLOCKS)
def test_saved_model_is_loaded_exactly(tmp_path, block):
    model = moved(patch_size=2, block=block, block_settings=BLOCKS[block])
    model.save_pretrained(tmp_path)
    assert {path.suffix for path in tmp_path.iterdir()} == {".json", ".safetensors"}
    again = LiquidNet.from_pretrained(tmp_path, use_safetensors=True, low_cpu_mem_usage=False)
    assert {key: again.config[key] for key in model.config} == dict(model.config)
    assert torch.equal(again(*inputs()), model(*inputs()))


@pytest.mark.parametrize("block", BLOCKS)
def test_gradient_checkpointing_keeps_gradients(block):
    """Blocks run twice."""
    model = moved(block=block, block_settings=BLOCKS[block])
    runs = []
    model.blocks[0].register_forward_pre_hook(lambda *_: runs.append(1))
    arguments = inputs()
    plain = gradients(model, *arguments)
    assert len(runs) == 1
    model.gradient_checkpointing = True
    torch.testing.assert_close(gradients(model, *arguments), plain, rtol=0, atol=0)
    assert len(runs) == 3


@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize("patch_size", [1, 2])
def test_channels_last_is_kept_inside(patch_size, block):
    model = moved(patch_size=patch_size, block=block, block_settings=BLOCKS[block])
    arguments = inputs()
    expected = model(*arguments)
    model = model.to(memory_format=torch.channels_last)
    strides = []
    for block in model.blocks:
        block.register_forward_hook(lambda _, args, output: strides.append(output.stride(1)))
    torch.testing.assert_close(model(*arguments), expected)
    assert strides == [1] * 4


@pytest.mark.parametrize("block", BLOCKS)
def test_bfloat16_stays_close_to_fp32(block):
    model = moved(block=block, block_settings=BLOCKS[block])
    arguments = inputs()
    expected = model(*arguments)
    with torch.autocast("cpu", torch.bfloat16):
        velocity = model(*arguments)
    assert velocity.dtype == torch.bfloat16
    assert F.mse_loss(velocity.float(), expected) < 1e-3 * expected.square().mean()


@pytest.mark.parametrize("block", BLOCKS)
def test_compiled_model_is_one_graph(block):
    model = moved(depth=2, block=block, block_settings=BLOCKS[block])
    arguments = inputs()
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True, dynamic=False)
    torch.testing.assert_close(compiled(*arguments), model(*arguments))


@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize(("rows", "columns"), [(8, 8), (1, 1), (3, 5), (1, 7), (6, 4)])
def test_levels_accept_any_side(block, rows, columns):
    model = moved(block=block, block_settings=BLOCKS[block] | HEAD.get(block, {}), **LEVELS)
    x_t, t, labels = inputs(2, rows, columns)
    velocity = model(x_t, t, labels)
    assert velocity.shape == x_t.shape
    assert velocity.isfinite().all()


def test_blocks_run_down_the_levels_and_up_again():
    model = moved(**LEVELS)
    shapes = []
    for block in model.blocks:
        block.register_forward_hook(lambda _, args, out: shapes.append(out.shape[1:]))
    model(*inputs())
    down = [(32, 8, 8), (32, 8, 8), (48, 4, 4), (64, 2, 2)]
    assert shapes == [*down, *reversed(down)]


def test_levels_add_skips_in_reverse_order():
    model = moved(**LEVELS)
    seen = []
    for block in model.blocks:
        block.register_forward_hook(lambda _, args, output: seen.append((args[0], output)))
    model(*inputs())
    up = model.up[1](seen[4][1], torch.Size((4, 4)))
    torch.testing.assert_close(seen[5][0], up + seen[2][1])
    up = model.up[0](seen[5][1], torch.Size((8, 8)))
    torch.testing.assert_close(seen[6][0], up + seen[1][1])
    torch.testing.assert_close(seen[7][0], seen[6][1] + seen[0][1])


def test_a_level_is_halved_by_whole_patches():
    """Each position of the next level depends on its own four positions alone."""
    step = Downsample(3, 5)
    x = torch.randn(1, 3, 4, 6, requires_grad=True)
    step(x)[0, :, 1, 2].sum().backward()
    seen = x.grad.abs().sum(dim=(0, 1)) > 0
    assert seen.nonzero().tolist() == [[2, 4], [2, 5], [3, 4], [3, 5]]
    x = torch.randn(1, 5, 2, 3, requires_grad=True)
    Upsample(5, 3)(x, torch.Size((4, 6)))[0, :, 2:, 4:].sum().backward()
    assert (x.grad.abs().sum(dim=(0, 1)) > 0).nonzero().tolist() == [[1, 2]]


def test_an_odd_side_repeats_its_edge_and_is_cut_off_again():
    step = Downsample(3, 5)
    x = torch.randn(2, 3, 3, 5)
    padded = torch.cat([x, x[:, :, -1:]], 2)
    padded = torch.cat([padded, padded[..., -1:]], 3)
    assert torch.equal(step(x), step(padded))
    step = Upsample(5, 3)
    x = torch.randn(2, 5, 2, 3)
    whole = step(x, torch.Size((4, 6)))
    assert torch.equal(step(x, torch.Size((3, 5))), whole[:, :, :3, :5])


@pytest.mark.parametrize(("height", "width"), [(8, 8), (5, 6), (3, 3)])
def test_levels_keep_gradients(height, width):
    model = moved(**LEVELS)
    arguments = inputs(height=height, width=width)
    plain = gradients(model, *arguments)
    assert all(gradient.abs().sum() > 0 for gradient in plain.values())
    model.gradient_checkpointing = True
    torch.testing.assert_close(gradients(model, *arguments), plain, rtol=0, atol=0)


@pytest.mark.parametrize(("height", "width"), [(8, 8), (5, 6)])
def test_levels_keep_channels_last(height, width):
    model = moved(**LEVELS)
    arguments = inputs(height=height, width=width)
    expected = model(*arguments)
    model = model.to(memory_format=torch.channels_last)
    strides = []
    for block in model.blocks:
        block.register_forward_hook(lambda _, args, output: strides.append(output.stride(1)))
    torch.testing.assert_close(model(*arguments), expected)
    assert strides == [1] * 8


@pytest.mark.parametrize(("height", "width"), [(8, 8), (5, 6)])
def test_levels_are_one_graph(height, width):
    model = moved(**LEVELS)
    arguments = inputs(height=height, width=width)
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True, dynamic=False)
    torch.testing.assert_close(compiled(*arguments), model(*arguments))


def test_model_with_levels_is_saved_and_loaded(tmp_path):
    model = moved(**LEVELS)
    model.save_pretrained(tmp_path)
    again = LiquidNet.from_pretrained(tmp_path, use_safetensors=True, low_cpu_mem_usage=False)
    assert torch.equal(again(*inputs()), model(*inputs()))


@pytest.mark.parametrize("changes", [{}, LEVELS])
def test_cost_is_linear_in_pixels(changes):
    def cost(side):
        with torch.device("meta"), FlopCounterMode(display=False) as counter:
            network(**changes)(*inputs(1, side, side, device="meta"))
        return counter.get_total_flops()

    first, second, third = cost(16), cost(32), cost(64)
    assert third - second == 4 * (second - first) > 0


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"width": 40}, r"model\.width: .* multiple of 16; it is 40"),
        ({"width": [32, 40], "depth": [2, 2]}, r"model\.width: .* multiple of 16; it is 40"),
        ({"width": [32, 32], "depth": [2]}, r"model\.depth: must have as many numbers as width, 2"),
        ({"depth": 3}, r"model\.depth: .* multiple of 2; it is 3"),
        ({"sample_size": 9, "patch_size": 2}, "size 9: .* multiple of patch_size 2; .*image_size"),
        ({"sample_size": [8, 9], "patch_size": 2}, r"size \[8, 9\]: .* multiple of patch_size 2"),
        ({"block": "liqiud"}, "no block type 'liqiud'; choose one of .*liquid"),
        (
            {"block_settings": LIQUID | {"kernel_sise": 5}},
            r"blocks\.liquid\.kernel_sise: unknown key; did you mean blocks\.liquid\.kernel_size",
        ),
        ({"block_settings": LIQUID | {"kernel_size": 4}}, r"liquid\.kernel_size: must be odd"),
        ({"block_settings": LIQUID | {"scan_kernel_size": 4}}, r"scan_kernel_size: must be odd"),
        ({"block_settings": LIQUID | {"alpha_init": 1.0}}, r"liquid\.alpha_init: .* less than 1"),
        ({"block_settings": LIQUID | {"mlp_ratio": "4"}}, r"liquid\.mlp_ratio: .* valid integer"),
        ({"block_settings": {}}, r"blocks\.liquid\.kernel_size: missing key"),
        (
            {"width": 48, "block": "attention", "block_settings": BLOCKS["attention"]},
            r"width 48: must be a multiple of blocks\.attention\.head_dim 32",
        ),
    ],
)
def test_unfit_settings_are_refused(changes, rule):
    with pytest.raises(UserError, match=rule) as refusal:
        network(**changes)
    assert "\n" not in str(refusal.value)


def test_block_types_define_settings_and_block():
    for name in BLOCK_TYPES:
        assert {"Settings", "Block"} <= vars(block_type(name)).keys()
