"""`train.init_from`: a training that starts from a trained model."""

import re
import shutil
from dataclasses import replace

import pytest
import torch
from helpers.small_model import CLASSES, metadata, network
from helpers.standin import StandInHub
from helpers.training import CPU, MODEL, prepare, train, with_other_autoencoder

from liquidgen import LiquidGenPipeline
from liquidgen.generator.model_folder import save_model
from liquidgen.generator.pretrained import load_pretrained
from liquidgen.models.liquidnet import LiquidNet
from liquidgen.stages.train.export import export, model_metadata
from liquidgen.stages.train.trainer import Trainer
from liquidgen.utils.errors import UserError


@pytest.fixture(scope="module")
def trained(latents, tmp_path_factory):
    """The model folder of a short training."""
    folder = tmp_path_factory.mktemp("trained")
    trainer = train(prepare(folder / "train", latents))
    export(trainer, folder / "model", folder / "metrics", name="small", run_id="0" * 32)
    return folder / "model"


def saved_pipeline(folder, model):
    LiquidGenPipeline.from_pretrained(model).save_pretrained(folder)
    return folder


def test_training_starts_from_the_weights(tmp_path, latents, trained):
    pretrained = load_pretrained(str(trained))
    training = prepare(tmp_path, latents, pretrained=pretrained)
    with training.locked():
        weights = Trainer(training, CPU).learner.model.state_dict()
    theirs = pretrained.network.state_dict()
    assert [name for name in theirs if not torch.equal(weights[name], theirs[name])] == []


def test_training_goes_on_where_the_other_ended(tmp_path, latents, trained):
    ends = {}
    for name, pretrained in (("anew", None), ("further", load_pretrained(str(trained)))):
        trainer = train(prepare(tmp_path / name, latents, pretrained=pretrained))
        ends[name] = trainer.progress.curve[0]["validation_loss"]
    assert ends["further"] < ends["anew"]


def test_identity_is_of_the_weights_not_of_their_place(tmp_path, latents, trained):
    copy = shutil.copytree(trained, tmp_path / "copy")
    pretrained = [None, *(load_pretrained(str(folder)) for folder in (trained, copy))]
    without, one, other = (prepare(tmp_path, latents, pretrained=start) for start in pretrained)
    assert without.folder != one.folder == other.folder
    assert "init_from" not in without.recipe
    assert re.fullmatch("[0-9a-f]{64}", one.recipe["init_from"])


def test_interrupted_training_needs_no_second_start(tmp_path, latents, trained):
    training = prepare(tmp_path, latents, pretrained=load_pretrained(str(trained)))
    step = train(training).learner.step
    with training.locked():
        assert Trainer(training, CPU).learner.step == step


def test_license_of_the_other_images_stays(tmp_path, latents, trained):
    trainer = train(prepare(tmp_path, latents, pretrained=load_pretrained(str(trained))))
    own = model_metadata(trainer, "small").license
    assert " and " not in own
    pretrained = load_pretrained(str(trained))
    other = pretrained.metadata.model_copy(update={"license": "CC-BY-4.0"})
    pretrained = replace(pretrained, metadata=other)
    trainer = train(prepare(tmp_path, latents, pretrained=pretrained))
    assert model_metadata(trainer, "small").license == f"{own} and CC-BY-4.0"


@pytest.fixture
def small(tmp_path):
    """The folder of another small model, whose classes are CLASSES."""
    save_model(tmp_path / "small", network(len(CLASSES)), metadata(CLASSES), "0" * 32)
    return tmp_path / "small"


def another(sample_size, num_classes):
    config = network(len(CLASSES)).config
    changes = {"sample_size": sample_size, "num_classes": num_classes}
    names = ("in_channels", "width", "depth", "cond_dim", "patch_size", "block", "block_settings")
    return LiquidNet(**{name: config[name] for name in names}, **changes)


def test_classes_are_taken_by_name(small):
    pretrained = load_pretrained(str(small))
    classes = ("marble", "waves", "hills")
    started = another(4, len(classes))
    pretrained.copy_to(started, classes)
    labels = pretrained.network.condition.label.weight
    rows = [CLASSES.index("marble"), len(CLASSES), CLASSES.index("hills"), len(CLASSES)]
    assert torch.equal(started.condition.label.weight, labels[rows])
    assert pretrained.summary(classes).endswith("2 of 3 classes by name")


def test_model_without_classes_starts_as_the_null_label(small):
    pretrained = load_pretrained(str(small))
    started = another(4, 0)
    pretrained.copy_to(started, None)
    labels = pretrained.network.condition.label.weight
    assert torch.equal(started.condition.label.weight, labels[-1:])


def test_positions_of_another_image_size_are_resized(small):
    pretrained = load_pretrained(str(small))
    started = another(8, len(CLASSES))
    pretrained.copy_to(started, CLASSES)
    x = torch.randn(2, 16, 8, 8)
    t = torch.rand(2)
    labels = torch.tensor([0, 2])
    with torch.no_grad():  # the network resizes them by itself when it is called
        assert torch.equal(started(x, t, labels), pretrained.network(x, t, labels))


def test_saved_pipeline_and_hub_give_the_same_weights(tmp_path, small, hub: StandInHub):
    folder = saved_pipeline(tmp_path / "saved", small)
    hub.model("people/liquid", folder)
    digests = {
        load_pretrained(str(place)).digest
        for place in (folder, "hf://people/liquid@main", "hf://people/liquid@main")
    }
    assert len(digests) == 1
    for name, value in load_pretrained(str(folder)).network.state_dict().items():
        assert torch.equal(value, network(len(CLASSES)).state_dict()[name])


def assert_refused(message, address):
    with pytest.raises(UserError, match=message) as error:
        load_pretrained(str(address))
    assert "\n" not in str(error.value)


def test_what_is_no_model_is_refused(tmp_path, small, hub: StandInHub):
    hub.model("people/other", tmp_path)
    assert_refused(r"^train\.init_from: .*nowhere: holds no LiquidGen model; give", "nowhere")
    assert_refused("no LiquidGen model; correct the address", "hf://people/other@main")
    assert_refused(r"^train\.init_from: 'hf://people' is no address of the form", "hf://people")
    with open(small / "liquidnet/diffusion_pytorch_model.safetensors", "r+b") as file:
        file.seek(-1, 2)
        file.write(b"\xff")
    assert_refused("damaged, its sha256 is not the recorded one", small)


def test_other_sizes_are_refused(tmp_path, latents, trained):
    other = MODEL.model_copy(update={"width": [32, 96]})
    pretrained = load_pretrained(str(trained))
    with pytest.raises(UserError, match=r"its width is \[32, 64\], but that of this training is"):
        prepare(tmp_path, latents, model=other, pretrained=pretrained)


def test_other_autoencoder_is_refused(tmp_path, latents, trained):
    other = with_other_autoencoder(tmp_path / "latents", latents)
    pretrained = load_pretrained(str(trained))
    with pytest.raises(UserError, match=r"train\.init_from: .* latents of another autoencoder"):
        prepare(tmp_path, other, pretrained=pretrained)
