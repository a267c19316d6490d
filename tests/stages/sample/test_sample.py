"""The stage sample: images from numbered noise, whole folders only, damaged models refused."""

import io
import json
import shutil

import numpy as np
import pytest
import torch
from helpers.memory import use_memory_for
from helpers.small_model import CLASSES, IMAGE_SIZE, LIQUID, metadata, network
from PIL import Image
from safetensors.torch import load_file, save_file

from liquidgen.config.settings import SampleSettings
from liquidgen.figures import grid as figure
from liquidgen.flow.solvers import SOLVERS
from liquidgen.generator.draw import noise_of
from liquidgen.generator.model_folder import MODEL, NETWORK, load_model, save_model
from liquidgen.images.raw import RawDataset
from liquidgen.latents.autoencoder import Autoencoder
from liquidgen.stages.sample.sample import GRID, SINGLES, sample
from liquidgen.utils.errors import UserError
from liquidgen.utils.files import StoredFile

CPU = torch.device("cpu")
WEIGHTS = "diffusion_pytorch_model.safetensors"


def settings(**changes):
    few = {"num_images": 7, "batch_size": 3, "solver": "euler", "num_inference_steps": 2, "seed": 0}
    return SampleSettings(
        **few | {"guidance_scale": 2.0, "precision": "auto", "grid_columns": 2} | changes
    )


def drawn(model, folder, **changes):
    """Run the stage; returns its images and labels."""
    sample(model, folder, settings=settings(**changes), device=CPU)
    records = list(RawDataset(folder).records("samples"))
    images = [np.asarray(Image.open(io.BytesIO(record.data))) for record in records]
    return np.stack(images).astype(int), [record.label for record in records]


def test_bf16_draws_nearly_the_same(model, some, tmp_path):
    _, images, _ = some
    rounded, _ = drawn(model, tmp_path / "bf16", precision="bf16")
    difference = np.abs(rounded - images)
    assert 0 < difference.mean() < 1  # of 255 levels
    sampling = RawDataset(tmp_path / "bf16").info.sampling
    assert sampling["dtype"] == "bfloat16"


def test_precision_that_a_cpu_lacks_is_refused_before_drawing(model, tmp_path):
    with pytest.raises(UserError, match=r"^sample\.precision: fp16 needs a CUDA device"):
        drawn(model, tmp_path / "fp16", precision="fp16")
    assert not (tmp_path / "fp16").exists()


def content(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture(scope="module")
def some(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("samples") / "some"
    return folder, *drawn(model, folder)


def test_samples_are_a_raw_dataset(model, some):
    folder, images, _ = some
    dataset = RawDataset(folder)
    dataset.verify()
    assert dataset.classes == CLASSES
    assert images.shape == (7, IMAGE_SIZE, IMAGE_SIZE, 3)
    assert dataset.info.splits["samples"].per_class == {"hills": 3, "marble": 2, "dots": 2}
    assert dataset.info.sampling == {
        "solver": "euler",
        "num_inference_steps": 2,
        "guidance_scale": 2.0,
        "seed": 0,
        "dtype": "float32",
        "latents_digest": "0123456789abcdef",
        "weights_digest": load_model(model)[1].weights.sha256,
    }
    assert dataset.info.license == "CC-BY-4.0"


def test_labels_cycle_over_the_classes(some):
    assert some[2] == [0, 1, 2, 0, 1, 2, 0]


def test_first_images_are_also_single_files(some):
    folder, images, _ = some
    names = sorted(path.name for path in folder.glob("0*.png"))
    assert names == [f"{number:06d}.png" for number in range(SINGLES)]
    for name, image in zip(names, images, strict=False):
        assert np.array_equal(np.asarray(Image.open(folder / name)), image)


def test_grid_has_classes_as_rows(model, some, tmp_path):
    grid = sample(model, tmp_path / "samples", settings=settings(), device=CPU)
    step = (grid.height - IMAGE_SIZE) // 2
    for number, image in enumerate(some[1][:6]):
        row = number % 3
        column = number // 3
        left = grid.width - IMAGE_SIZE - (1 - column) * step
        box = (left, row * step, left + IMAGE_SIZE, row * step + IMAGE_SIZE)
        assert np.array_equal(np.asarray(grid.crop(box)), image)
    with Image.open(tmp_path / "samples" / GRID) as written:
        assert written.tobytes() == grid.tobytes()


def test_grid_of_many_classes_has_the_first(model, tmp_path, monkeypatch):
    whole = sample(model, tmp_path / "whole", settings=settings(), device=CPU)
    monkeypatch.setattr(figure, "MAX_HEIGHT", 2 * (IMAGE_SIZE + figure.GAP))
    first = sample(model, tmp_path / "first", settings=settings(), device=CPU)
    rows = (0, 0, whole.width, 2 * IMAGE_SIZE + figure.GAP)
    assert first.crop(rows).tobytes() == whole.crop(rows).tobytes()
    assert first.height < whole.height
    assert content(tmp_path / "first").keys() == content(tmp_path / "whole").keys()


def test_same_settings_give_the_same_bytes(model, some, tmp_path):
    drawn(model, tmp_path / "again")
    assert content(tmp_path / "again") == content(some[0])


@pytest.mark.parametrize("batch_size", [1, 2, 7, 100])
def test_image_does_not_depend_on_batch_size(model, some, tmp_path, batch_size):
    images, labels = drawn(model, tmp_path / "other", batch_size=batch_size)
    assert labels == some[2]
    # products of other sizes may round otherwise, which moves a pixel by a level at most
    assert abs(images - some[1]).max() <= 1
    assert (images != some[1]).mean() < 0.001


def test_more_images_keep_the_first_ones(model, some, tmp_path):
    images, _ = drawn(model, tmp_path / "more", num_images=9)
    assert abs(images[:7] - some[1]).max() <= 1


@pytest.mark.parametrize(
    "change", [{"seed": 1}, {"guidance_scale": 1.0}, {"num_inference_steps": 3}]
)
def test_other_settings_give_other_images(model, some, tmp_path, change):
    images, _ = drawn(model, tmp_path / "other", **change)
    assert (abs(images - some[1]).max(axis=(1, 2, 3)) > 1).all()


@pytest.mark.parametrize("solver", SOLVERS)
def test_every_solver_draws(model, tmp_path, solver):
    images, _ = drawn(model, tmp_path / "samples", solver=solver, num_images=2)
    assert images.std() > 1


def test_noise_depends_on_seed_and_number_alone():
    seeds = [*((3, n) for n in range(4)), *((4, n) for n in range(4)), (2**40, 0)]
    noise = noise_of(seeds, (16, 8, 8))
    assert torch.equal(noise_of([(3, 2)], (16, 8, 8)), noise[2:3])
    correlation = torch.corrcoef(noise.flatten(1)) - torch.eye(9)
    assert correlation.abs().max() < 0.2  # 6 deviations of independent noise
    assert noise.mean().item() == pytest.approx(0, abs=0.05)
    assert noise.std().item() == pytest.approx(1, abs=0.05)


def test_fewer_images_than_classes_make_fewer_rows(model, tmp_path):
    _, labels = drawn(model, tmp_path / "samples", num_images=2)
    assert labels == [0, 1]
    with Image.open(tmp_path / "samples" / GRID) as grid:
        assert IMAGE_SIZE * 2 < grid.height < IMAGE_SIZE * 3


def test_unconditional_model_draws_without_guidance(unconditional, tmp_path):
    images, labels = drawn(unconditional, tmp_path / "samples")
    plain, _ = drawn(unconditional, tmp_path / "plain", guidance_scale=1.0)
    info = RawDataset(tmp_path / "samples").info
    assert labels == [None] * 7
    assert info.classes is None
    assert info.sampling["guidance_scale"] == 1
    assert np.array_equal(images, plain)


def test_load_model_returns_what_was_saved(model):
    loaded, found = load_model(model)
    assert metadata(CLASSES).model_dump().items() <= found.model_dump().items()
    assert not loaded.training
    for name, parameter in network(len(CLASSES)).named_parameters():
        assert torch.equal(loaded.get_parameter(name), parameter)


def cut(model):
    weights = model / NETWORK / WEIGHTS
    weights.write_bytes(weights.read_bytes()[:-100])


def emptied(model):
    (model / NETWORK / WEIGHTS).write_bytes(b"")


def scribbled(model):
    weights = model / NETWORK / WEIGHTS
    weights.write_bytes(b"\xff" * 20 + weights.read_bytes()[20:])


def flipped(model):
    weights = model / NETWORK / WEIGHTS
    data = bytearray(weights.read_bytes())
    data[-5] ^= 1
    weights.write_bytes(data)


def without_weights(model):
    (model / NETWORK / WEIGHTS).unlink()


def without_network(model):
    shutil.rmtree(model / NETWORK)


def without_metadata(model):
    (model / MODEL).unlink()


def cut_metadata(model):
    (model / MODEL).write_bytes((model / MODEL).read_bytes()[:-20])


def cut_config(model):
    config = model / NETWORK / "config.json"
    config.write_bytes(config.read_bytes()[:-20])


def configured(**changes):
    def change(model):
        path = model / NETWORK / "config.json"
        config = json.loads(path.read_bytes()) | changes
        path.write_text(json.dumps({k: v for k, v in config.items() if v is not None}))

    return change


def rewritten(**changes):
    def change(model):
        path = model / MODEL
        path.write_text(json.dumps(json.loads(path.read_bytes()) | changes))

    return change


def recontracted(**changes):
    def change(model):
        contract = json.loads((model / MODEL).read_bytes())["contract"]
        rewritten(contract=contract | changes)(model)

    return change


def renamed_weights(name):
    def change(model):
        weights = json.loads((model / MODEL).read_bytes())["weights"]
        rewritten(weights=weights | {"name": name})(model)

    return change


def reweighted(change):
    def rewrite(model):
        tensors = load_file(model / NETWORK / WEIGHTS)
        change(tensors)
        save_file(tensors, model / NETWORK / WEIGHTS, {"format": "pt"})
        weights = StoredFile.of(model / NETWORK / WEIGHTS, 0).model_dump()
        saved = json.loads((model / MODEL).read_bytes()) | {"weights": weights}
        (model / MODEL).write_text(json.dumps(saved))

    return rewrite


DAMAGES = {
    "cut": (cut, "has [0-9]+ bytes instead of"),
    "emptied": (emptied, "has 0 bytes instead of"),
    "scribbled": (scribbled, "damaged, its sha256"),
    "one bit flipped": (flipped, "damaged, its sha256"),
    "no weights": (without_weights, r"safetensors: missing"),
    "no network": (without_network, r"liquidnet/diffusion_pytorch_model\.safetensors: missing"),
    "no metadata": (without_metadata, r"model\.json: missing"),
    "cut metadata": (cut_metadata, r"model\.json: content: .*JSON"),
    "cut config": (cut_config, r"config\.json: content: Invalid JSON"),
    "wider": (configured(width=[48, 32]), "asks for patch_embedding.weight of shape .*48"),
    "no width": (configured(width=None), r"config\.json: width: Field required"),
    "deeper": (configured(depth=[4, 4]), r"depth is \[4, 4\], but the weights have 6 blocks"),
    "endless": (
        configured(depth=[10**7, 2]),
        r"depth is \[10000000, 2\], but the weights have 6 blocks",
    ),
    "no patches": (configured(patch_size=0), r"config\.json: patch_size: .* greater than"),
    "large patches": (configured(patch_size=9), "must be a multiple of patch_size 9"),
    "huge": (configured(width=[2**40, 32]), "asks for .* that no memory holds"),
    "huge blocks": (
        configured(block_settings=LIQUID | {"mlp_ratio": 10**9}),
        "blocks.liquid.mlp_ratio: input should be less than",
    ),
    "more classes": (configured(num_classes=4), "num_classes is 4, but the model has 3"),
    "no block": (configured(block="../liquid"), "block: no block type"),
    "classes doubled": (rewritten(classes=["a", "a", "b"]), "classes: 'a' is there more than once"),
    "classes null": (
        rewritten(classes=["a", None, "b"]),
        r"classes\.1: Input should be a valid st",
    ),
    "no classes": (rewritten(classes=[]), "classes: must hold at least one name"),
    "classes renamed": (rewritten(classes=["a", "b"]), "num_classes is 3, but the model has 2"),
    "no recipe": (rewritten(recipe=None), "recipe: Input should be an object"),
    "empty recipe": (rewritten(recipe={}), "recipe: needs a label_dropout from 0 to 1"),
    "odd recipe": (rewritten(recipe={"label_dropout": "x"}), "recipe: needs a label_dropout"),
    "negative steps": (rewritten(num_steps=-1), "num_steps: Input should be greater than or eq"),
    "short mean": (recontracted(mean=[0.0]), "contract: mean has 1 values for 16 channels"),
    "long std": (recontracted(std=[1.0] * 17), "contract: std has 17 values for 16 channels"),
    "other size": (recontracted(image_size=128), "sample_size is 4, but the model has 16"),
    "no size": (recontracted(image_size=0), "contract.image_size: must be from 1 to 16384 px"),
    "elsewhere": (renamed_weights("/etc/passwd"), "weights.name: must be the plain name of a file"),
    "above": (renamed_weights("../x"), "weights.name: must be the plain name of a file"),
    "other file": (renamed_weights("config.json"), "weights.name: must be diffusion_pytorch_mo"),
    "one missing": (
        reweighted(lambda t: t.pop("out_mix.bias")),
        "asks for out_mix.bias of shape .*, but the weights have none",
    ),
    "one more": (
        reweighted(lambda t: t.update(other=torch.zeros(1))),
        "1 unexpected weights, such as other",
    ),
    "not a number": (
        reweighted(lambda t: t["out_mix.bias"].fill_(torch.nan)),
        "latents are not finite",
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_model_is_refused(model, some, tmp_path, capfd, damage):
    """Earlier samples stay."""
    change, rule = DAMAGES[damage]
    shutil.copytree(model, tmp_path / "model")
    shutil.copytree(some[0], tmp_path / "samples")
    change(tmp_path / "model")
    capfd.readouterr()
    with pytest.raises(UserError, match=rf"{rule}.*(`dvc repro`|; train it again)") as refusal:
        sample(tmp_path / "model", tmp_path / "samples", settings=settings(), device=CPU)
    assert "\n" not in str(refusal.value)
    assert "newly initialized" not in "".join(capfd.readouterr())
    assert content(tmp_path / "samples") == content(some[0])
    assert {path.name for path in tmp_path.iterdir()} == {"model", "samples"}


def test_other_autoencoder_is_refused(some, tmp_path):
    other = metadata(CLASSES, autoencoder_digest="f" * 64)
    save_model(tmp_path / "model", network(len(CLASSES)), other, "run")
    shutil.copytree(some[0], tmp_path / "samples")
    with pytest.raises(UserError, match="the latents were made with ffffffffffff; run"):
        sample(tmp_path / "model", tmp_path / "samples", settings=settings(), device=CPU)
    assert content(tmp_path / "samples") == content(some[0])


def test_guidance_without_null_labels_is_refused(some, tmp_path):
    untrained = metadata(CLASSES).model_copy(update={"recipe": {"label_dropout": 0.0}})
    save_model(tmp_path / "model", network(len(CLASSES)), untrained, "run")
    shutil.copytree(some[0], tmp_path / "samples")
    with pytest.raises(UserError, match=r"guidance_scale: 2\.0, .*; set it to 1"):
        drawn(tmp_path / "model", tmp_path / "samples")
    assert content(tmp_path / "samples") == content(some[0])
    images, _ = drawn(tmp_path / "model", tmp_path / "samples", guidance_scale=1.0)
    assert len(images) == 7


def test_interrupted_sampling_keeps_earlier_samples(model, some, tmp_path, monkeypatch):
    shutil.copytree(some[0], tmp_path / "samples")
    decode = Autoencoder.decode
    calls = []

    def interrupted(self, latents):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return decode(self, latents)

    monkeypatch.setattr(Autoencoder, "decode", interrupted)
    with pytest.raises(KeyboardInterrupt):
        drawn(model, tmp_path / "samples", seed=1)
    assert content(tmp_path / "samples") == content(some[0])
    assert [path.name for path in tmp_path.iterdir()] == ["samples"]


def test_new_samples_replace_earlier_ones(model, some, tmp_path):
    shutil.copytree(some[0], tmp_path / "samples")
    images, _ = drawn(model, tmp_path / "samples", num_images=2)
    assert len(images) == 2
    assert len(list((tmp_path / "samples").glob("0*.png"))) == 2


def test_batches_that_need_too_much_memory_are_halved(model, some, tmp_path, monkeypatch, caplog):
    decode = Autoencoder.decode
    sizes = []

    def limited(self, latents):
        sizes.append(len(latents))
        use_memory_for(len(latents), most=2)
        return decode(self, latents)

    monkeypatch.setattr(Autoencoder, "decode", limited)
    images, labels = drawn(model, tmp_path / "samples", batch_size=7)
    assert sizes == [7, 3, 1, 1, 1, 1, 1, 1, 1]
    assert labels == some[2]
    assert abs(images - some[1]).max() <= 1  # rounding differs with the size of a batch
    assert [text.partition(";")[0] for text in caplog.messages] == [
        "sample.batch_size: not enough memory for batches of 7",
        "sample.batch_size: not enough memory for batches of 3",
    ]


def test_too_little_memory_for_one_image_is_one_line(model, tmp_path, monkeypatch):
    monkeypatch.setattr(Autoencoder, "decode", lambda self, latents: use_memory_for(1, most=0))
    with pytest.raises(UserError, match=r"^sample\.batch_size: not enough memory even"):
        drawn(model, tmp_path / "samples")
    assert not (tmp_path / "samples").exists()
