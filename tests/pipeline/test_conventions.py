"""LiquidGenPipeline as diffusers' users expect it: the checks of its own pipeline tests."""

import inspect
import json
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline, UniPCMultistepScheduler
from diffusers.callbacks import PipelineCallback
from diffusers.utils.torch_utils import randn_tensor
from helpers.pipelines import load
from helpers.small_model import CLASSES, IMAGE_SIZE
from helpers.standin import StandInHub
from safetensors.torch import load_file

from liquidgen import LiquidGenPipeline
from liquidgen.flow.solvers import scheduler_of
from liquidgen.pipeline.arguments import OTHER_WORDS
from liquidgen.utils.errors import UserError

SHAPE = (len(CLASSES), 16, IMAGE_SIZE // 8, IMAGE_SIZE // 8)
NOISE = torch.randn(SHAPE, generator=torch.Generator().manual_seed(0))


def draw(pipe: LiquidGenPipeline, **options: object) -> object:
    """Images as NumPy arrays, in two steps; `options` change anything."""
    return pipe(**{"num_inference_steps": 2, "output_type": "np"} | options).images


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return {
        f"{path.parent.name}.{name}": value
        for path in sorted(folder.rglob("diffusion_pytorch_model.safetensors"))
        for name, value in load_file(path).items()
    }


# ---- outputs ------------------------------------------------------------------------------------


def test_output_types_hold_the_same_images(pipe):
    arrays = draw(pipe)
    assert arrays.shape == (3, IMAGE_SIZE, IMAGE_SIZE, 3)
    assert (arrays.min(), arrays.max()) >= (0, 0)
    assert arrays.max() <= 1
    tensors = draw(pipe, output_type="pt")
    assert np.array_equal(tensors.permute(0, 2, 3, 1).numpy(), arrays)
    images = draw(pipe, output_type="pil")
    assert abs(np.stack(images) / 255 - arrays).max() <= 0.5 / 255 + 1e-6
    latents = draw(pipe, output_type="latent")
    assert latents.shape == SHAPE
    assert np.array_equal(pipe.decode_latents(latents, "np"), arrays)


@pytest.mark.parametrize("output_type", ["pil", "np", "pt", "latent"])
def test_batches_are_joined(pipe, output_type):
    whole = draw(pipe, output_type=output_type)
    parts = draw(pipe, output_type=output_type, batch_size=2)
    if output_type == "pil":
        whole, parts = np.stack(whole) / 255, np.stack(parts) / 255
    assert parts.shape == whole.shape
    assert (
        abs(torch.as_tensor(parts - whole)).max() < 0.02
    )  # another batch size may round otherwise


def test_return_dict_false_is_a_tuple(pipe):
    (images,) = pipe(num_inference_steps=1, output_type="np", return_dict=False)
    assert np.array_equal(images, draw(pipe, num_inference_steps=1))


def test_tensors_can_be_changed_and_learned_from(pipe):
    """They are no inference tensors of torch."""
    for output_type in ("pt", "latent"):
        drawn = draw(pipe, output_type=output_type, batch_size=2)
        drawn.mul_(2)
        (drawn * torch.ones(1, requires_grad=True)).sum().backward()


# ---- noise: seed, generator or latents ----------------------------------------------------------


def test_generator_draws_as_everywhere_in_diffusers(pipe):
    expected = draw(pipe, latents=NOISE)
    generator = torch.Generator().manual_seed(0)
    assert np.array_equal(draw(pipe, generator=generator), expected)
    assert not np.array_equal(draw(pipe, generator=generator), expected)  # it has moved on
    generator.manual_seed(0)
    assert np.array_equal(randn_tensor(SHAPE, generator=generator), NOISE)


def test_a_generator_per_image_gives_its_image_at_any_batch_size(pipe):
    def generators(*seeds: int) -> list[torch.Generator]:
        return [torch.Generator().manual_seed(seed) for seed in seeds]

    three = draw(pipe, class_labels="hills", num_images=3, generator=generators(4, 5, 6))
    one = draw(pipe, class_labels="hills", num_images=1, generator=generators(5))
    assert abs(one[0] - three[1]).max() < 0.02
    batches = draw(
        pipe, class_labels="hills", num_images=3, generator=generators(4, 5, 6), batch_size=2
    )
    assert abs(batches - three).max() < 0.02


def test_seed_is_0_without_any(pipe):
    assert np.array_equal(draw(pipe), draw(pipe, seed=0))
    assert not np.array_equal(draw(pipe), draw(pipe, seed=1))


@pytest.mark.parametrize(
    ("arguments", "rule"),
    [
        ({"seed": 1, "generator": torch.Generator()}, "seed and generator: each of them says"),
        ({"generator": torch.Generator(), "latents": NOISE}, "generator and latents: each of them"),
        ({"latents": NOISE[:2]}, "latents: shape (2, 16, 4, 4); must be (3, 16, 4, 4)"),
        ({"latents": NOISE.int()}, "latents: torch.int32; must be a tensor of floating-point"),
        ({"latents": [0.0]}, "latents: list; must be a tensor"),
        ({"generator": [torch.Generator()]}, "generator: 1 of them for 3 images; give one per"),
        ({"generator": [1, 2, 3]}, "generator: [1, 2, 3]; must be a torch.Generator, or a list of"),
        ({"output_type": "jpg"}, "output_type: 'jpg'; must be one of pil, np, pt, latent"),
        ({"callback_on_step_end_tensor_inputs": ["x"]}, "tensor_inputs: 'x'; must be one of lat"),
        ({"callback_on_step_end": lambda *_: None}, "callback_on_step_end: returned NoneType"),
        (
            {"callback_on_step_end": lambda *_: {"latents": NOISE[:1]}},
            "callback_on_step_end: latents must stay a tensor of shape (3, 16, 4, 4)",
        ),
        ({"num_inference_stepss": 2}, "num_inference_stepss: unknown argument; did you mean"),
        (
            {"zz": 2},
            "zz: unknown argument; there are 'class_labels', 'num_images', 'num_infer",
        ),
        ({"generator": 42}, "generator: 42; must be a torch.Generator, or a list of one per"),
    ],
)
def test_invalid_arguments_are_one_line(pipe, arguments, rule):
    with pytest.raises(UserError, match=re.escape(rule)) as refused:
        pipe(**arguments)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(("before", "now"), OTHER_WORDS.items())
def test_earlier_word_is_refused_by_the_right_one(pipe, before, now):
    with pytest.raises(UserError) as refused:
        pipe(**{before: 2})
    assert str(refused.value) == f"{before}: unknown argument; {now}"
    word = now.removeprefix("use ")
    assert word in inspect.signature(pipe.__call__).parameters or "set pipe.scheduler = " in now


# ---- callbacks ----------------------------------------------------------------------------------


def test_callback_sees_each_step_and_can_change_latents(pipe):
    seen = []

    def callback(pipeline, step, timestep, tensors):
        assert pipeline is pipe
        assert list(tensors) == list(pipe._callback_tensor_inputs)
        seen.append((step, float(timestep)))
        if step == pipe.num_timesteps - 1:
            tensors["latents"].zero_()
        return tensors

    assert not draw(pipe, callback_on_step_end=callback, output_type="latent").any()
    assert seen == [(0, 999.0), (1, 499.0)]


def test_callback_that_changes_nothing_changes_nothing(pipe):
    same = draw(pipe, callback_on_step_end=lambda pipe, step, timestep, tensors: tensors)
    none = draw(
        pipe,
        callback_on_step_end=lambda pipe, step, timestep, tensors: tensors,
        callback_on_step_end_tensor_inputs=[],
    )
    assert np.array_equal(same, draw(pipe))
    assert np.array_equal(none, draw(pipe))


def test_callback_object_names_its_tensors(pipe):
    class Halve(PipelineCallback):
        @property
        def tensor_inputs(self):
            return ["latents"]

        def callback_fn(self, pipeline, step_index, timestep, callback_kwargs):
            callback_kwargs["latents"] = callback_kwargs["latents"] / 2
            return callback_kwargs

    halved = draw(pipe, callback_on_step_end=Halve(cutoff_step_ratio=1.0), num_inference_steps=1)
    assert not np.array_equal(halved, draw(pipe, num_inference_steps=1))


def test_callback_can_change_guidance(pipe):
    def raise_guidance(pipe, step, timestep, tensors):
        pipe._guidance_scale += 1
        return tensors

    def end_guidance(pipe, step, timestep, tensors):
        pipe._guidance_scale = 0.0  # as diffusers' own callbacks do
        return tensors

    raised = draw(pipe, callback_on_step_end=raise_guidance, guidance_scale=2.0)
    assert pipe.guidance_scale == 2.0 + pipe.num_timesteps
    assert not np.array_equal(raised, draw(pipe, guidance_scale=2.0))
    options = {"callback_on_step_end": end_guidance, "guidance_scale": 2.0}
    one, both = draw(pipe, batch_size=1, **options), draw(pipe, **options)
    assert abs(one - both).max() < 0.02  # each batch begins with the guidance that was asked for


def test_callback_can_interrupt(pipe):
    latents = []

    def callback(pipe, step, timestep, tensors):
        latents.append(tensors["latents"])
        pipe._interrupt = step == 1
        return tensors

    options = {"num_inference_steps": 5, "output_type": "latent", "batch_size": 2}
    drawn = draw(pipe, callback_on_step_end=callback, **options)
    assert pipe.interrupt
    assert len(latents) == 2  # of the first batch
    assert torch.equal(drawn, latents[1])
    assert np.array_equal(draw(pipe), draw(pipe))  # the next call is whole again
    assert not pipe.interrupt


# ---- dtype --------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_draws_nearly_the_same(model, pipe, dtype):
    half = load(model, torch_dtype=dtype)
    assert {half.liquidnet.dtype, half.autoencoder.dtype, half.dtype} == {dtype}
    images = draw(half)
    assert images.dtype == np.float32
    difference = abs(images - draw(pipe))
    assert difference.max() > 0
    assert difference.mean() < (0.01 if dtype == torch.bfloat16 else 0.002)
    assert np.array_equal(images, draw(load(model).to(dtype)))
    assert np.array_equal(images, draw(load(model, dtype=dtype)))


def test_dtype_and_memory_format_are_kept(model):
    pipe = load(model, dtype=torch.bfloat16)
    convolution = pipe.liquidnet.project_pointwise.weight
    draw(pipe)
    assert pipe.autoencoder.dtype == torch.bfloat16
    assert pipe.liquidnet.project_pointwise.weight is convolution
    assert all(not parameter.is_inference() for parameter in pipe.autoencoder.parameters())


@pytest.mark.parametrize("name", ["dtype", "torch_dtype"])
def test_other_dtype_is_refused(model, name):
    with pytest.raises(UserError, match=f"{name}: torch.int8; must be one of None, torch.float32"):
        load(model, **{name: torch.int8})


def test_rounded_weights_are_saved_only_as_a_variant(saved, tmp_path):
    pipe = load(saved, dtype=torch.float16)
    for rounded in (pipe, pipe.to(torch.float32)):
        with pytest.raises(UserError, match=r"weights were rounded to .*float16; load"):
            rounded.save_pretrained(tmp_path / "saved")
    assert not (tmp_path / "saved").exists()
    with pytest.raises(
        UserError, match=r"variant: bf16, but the weights are not; use pipe.to\(tor"
    ):
        load(saved).save_pretrained(tmp_path / "saved", variant="bf16")


def test_variant_lies_beside_the_whole_weights(saved, tmp_path):
    folder = tmp_path / "both"
    load(saved).save_pretrained(folder)
    half = load(saved, dtype=torch.float16)
    half.save_pretrained(folder, variant="fp16")
    names = {path.name for path in (folder / "liquidnet").iterdir()}
    assert "diffusion_pytorch_model.fp16.safetensors" in names
    keys = {"liquidnet", "autoencoder", "liquidnet.fp16", "autoencoder.fp16"}
    assert json.loads((folder / "model_index.json").read_bytes())["weights"].keys() == keys
    assert np.array_equal(draw(load(folder)), draw(load(saved)))
    variant = load(folder, variant="fp16", torch_dtype=torch.float16)
    assert np.array_equal(draw(variant), draw(half))
    with pytest.raises(UserError, match=r"rounded to torch\.float16"):  # also as fp32
        load(folder, variant="fp16").save_pretrained(tmp_path / "again")


def test_save_beside_weights_of_another_model_is_refused(saved, unconditional, tmp_path):
    folder = tmp_path / "both"
    load(saved).save_pretrained(folder)
    load(saved, dtype=torch.bfloat16).save_pretrained(folder, variant="bf16")
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    beside = re.escape(f"{folder}/autoencoder/diffusion_pytorch_model.bf16.safetensors: weights of")
    with pytest.raises(UserError, match=f"{beside} another model; save to another folder"):
        load(unconditional).save_pretrained(folder)
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
    with pytest.raises(UserError, match="weights of another model; save to another folder"):
        load(unconditional, dtype=torch.float16).save_pretrained(folder, variant="fp16")
    load(unconditional).save_pretrained(tmp_path / "whole")
    load(saved).save_pretrained(tmp_path / "whole")  # replaces all weights
    assert np.array_equal(draw(load(tmp_path / "whole")), draw(load(saved)))


def test_save_certifies_only_what_it_wrote(saved, tmp_path):
    folder = tmp_path / "both"
    load(saved, dtype=torch.bfloat16).save_pretrained(folder, variant="bf16")
    path = folder / "liquidnet/diffusion_pytorch_model.bf16.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"\7")
    load(saved).save_pretrained(folder)
    load(folder)
    with pytest.raises(UserError, match=f"{folder}/liquidnet.*sha256 is not the recorded one"):
        load(folder, variant="bf16")


def test_variant_without_a_digest_is_refused(saved, tmp_path):
    """On the hub, weights of another model may lie beside those that were pushed."""
    folder = tmp_path / "both"
    load(saved).save_pretrained(folder)
    for network in ("liquidnet", "autoencoder"):
        path = folder / network / "diffusion_pytorch_model.safetensors"
        shutil.copy(path, path.with_name("diffusion_pytorch_model.bf16.safetensors"))
    with pytest.raises(UserError, match=f"{folder}/liquidnet.*not saved with this pipeline"):
        load(folder, variant="bf16")


def test_damaged_or_missing_variant_is_one_line(saved, tmp_path):
    folder = tmp_path / "both"
    load(saved, dtype=torch.bfloat16).save_pretrained(folder, variant="bf16")
    path = folder / "liquidnet/diffusion_pytorch_model.bf16.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"\7")
    with pytest.raises(UserError, match=f"{folder}/liquidnet.*sha256 is not the recorded one"):
        load(folder, variant="bf16")
    with pytest.raises(UserError, match=r"model.fp16.safetensors: no such variant; leave `var"):
        load(folder, variant="fp16")
    with pytest.raises(UserError, match="variant: 'ema'; must be one of None, fp16, bf16"):
        load(folder, variant="ema")


def test_hub_gives_only_the_weights_that_are_asked_for(hub: StandInHub, saved, tmp_path):
    folder = tmp_path / "both"
    shutil.copytree(saved, folder)
    load(saved, dtype=torch.float16).save_pretrained(folder, variant="fp16")
    hub.model("people/liquid", folder)
    half = load("people/liquid", variant="fp16", revision="main", token="hf_token")
    assert half.dtype == torch.float32
    assert hub.asked("HEAD", "model.fp16.safetensors")
    assert not hub.asked("HEAD", "model.safetensors")
    load("people/liquid")
    assert hub.asked("HEAD", "model.safetensors")


# ---- schedulers ---------------------------------------------------------------------------------


def test_scheduler_is_exchanged_the_usual_way(model):
    pipe = load(model)
    before = draw(pipe)
    flow = {"prediction_type": "flow_prediction", "use_flow_sigmas": True}
    pipe.scheduler = UniPCMultistepScheduler.from_config(pipe.scheduler.config, **flow)
    images = draw(pipe, num_inference_steps=4)
    assert not np.array_equal(images, before)
    pipe.scheduler = scheduler_of("unipc")
    assert np.array_equal(draw(pipe, num_inference_steps=4), images)


def test_exchanged_scheduler_is_saved(model, tmp_path):
    pipe = load(model)
    pipe.scheduler = scheduler_of("unipc")
    pipe.save_pretrained(tmp_path / "saved")
    loaded = load(tmp_path / "saved")
    assert type(loaded.scheduler) is type(pipe.scheduler)
    assert np.array_equal(draw(loaded), draw(pipe))


@pytest.mark.parametrize(("solver", "steps"), [("euler", 50), ("dpm", 20)])
def test_steps_of_a_call_without_them_are_those_of_its_solver(model, tmp_path, solver, steps):
    """Pipelines saved when Euler's method was the default draw what they drew."""
    pipe = load(model)
    pipe.scheduler = scheduler_of(solver)
    pipe.save_pretrained(tmp_path / "saved")
    loaded = load(tmp_path / "saved")
    loaded(0, output_type="latent")
    assert loaded.num_timesteps == steps


# ---- components and other ways to load ----------------------------------------------------------


def test_components_make_another_pipeline(pipe):
    assert pipe.components.keys() == {"liquidnet", "autoencoder", "scheduler"}
    for other in (LiquidGenPipeline(**pipe.components), LiquidGenPipeline.from_pipe(pipe)):
        other.set_progress_bar_config(disable=True)
        assert other.classes == CLASSES
        assert other.liquidnet is pipe.liquidnet
        assert np.array_equal(draw(other), draw(pipe))


@pytest.mark.filterwarnings("ignore:The folder:UserWarning")
def test_diffusers_loads_it_by_custom_pipeline(saved, monkeypatch, tmp_path):
    modules = "diffusers.utils.dynamic_modules_utils.HF_MODULES_CACHE"
    monkeypatch.setattr(modules, str(tmp_path / "modules"))
    monkeypatch.setattr(sys, "path", [*sys.path])
    options = {"custom_pipeline": "pipeline", "low_cpu_mem_usage": False}
    with pytest.raises(ValueError, match="trust_remote_code=True"):
        DiffusionPipeline.from_pretrained(saved, **options)
    options["trust_remote_code"] = True
    loaded = DiffusionPipeline.from_pretrained(saved, dtype=torch.bfloat16, **options)
    assert type(loaded) is LiquidGenPipeline
    assert np.array_equal(draw(loaded), draw(load(saved, dtype=torch.bfloat16)))
    with pytest.raises(UserError, match=r"rounded to torch\.bfloat16"):
        loaded.save_pretrained(tmp_path / "again")
    loaded = DiffusionPipeline.from_pretrained(saved, **options)
    loaded.save_pretrained(tmp_path / "again")
    again = weights(tmp_path / "again")
    assert all(torch.equal(again[name], value) for name, value in weights(saved).items())


def test_offload_without_accelerator_is_one_line(pipe):
    """Of diffusers: without the package accelerate, or with it and without a GPU."""
    with pytest.raises((ImportError, RuntimeError), match="requires") as refused:
        pipe.enable_model_cpu_offload()
    assert "\n" not in str(refused.value)
