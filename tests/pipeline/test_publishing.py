"""LiquidGenPipeline: images equal those of the stage sample; save, publish, load."""

import ast
import errno
import io
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.checkout import PROJECT
from helpers.pipelines import load
from helpers.small_model import CLASSES, IMAGE_SIZE, metadata, network
from helpers.standin import StandInHub
from huggingface_hub import ModelCard, constants, hf_api
from PIL import Image
from safetensors.torch import load_file

from liquidgen import LiquidGenPipeline
from liquidgen.config.params import load_params
from liquidgen.config.settings import SampleSettings
from liquidgen.flow.solvers import SOLVERS
from liquidgen.generator.model_folder import load_model, save_model
from liquidgen.images.raw import RawDataset
from liquidgen.pipeline import files, hub_io, pipeline
from liquidgen.pipeline.card import model_card, read_scores
from liquidgen.pipeline.labels import resolve_labels
from liquidgen.stages.sample.sample import sample
from liquidgen.utils.errors import UserError

NUM = 7


def drawn(pipe: LiquidGenPipeline, *arguments: object, **options: object) -> np.ndarray:
    """Images (N, S, S, 3), drawn in two steps."""
    images = pipe(*arguments, **{"num_inference_steps": 2} | options).images
    return np.stack([np.asarray(image) for image in images]).astype(int)


def staged(model: Path, folder: Path, **changes: object) -> np.ndarray:
    """Images of the stage sample."""
    defaults = {"num_images": NUM, "batch_size": 3, "solver": "dpm", "seed": 0, "grid_columns": 2}
    defaults |= {"num_inference_steps": 2, "guidance_scale": 2.0, "precision": "fp32"}
    settings = SampleSettings(**defaults | changes)
    sample(model, folder, settings=settings, device=torch.device("cpu"))
    records = RawDataset(folder).records("samples")
    return np.stack([np.asarray(Image.open(io.BytesIO(one.data))) for one in records]).astype(int)


@pytest.mark.parametrize("solver", SOLVERS)
def test_images_equal_those_of_stage_sample(model, tmp_path, solver):
    stage = staged(model, tmp_path / "samples", solver=solver)
    pipe = load(model)
    pipe.scheduler = SOLVERS[solver]()
    assert np.array_equal(drawn(pipe, num_images=NUM, guidance_scale=2.0, batch_size=3), stage)


def test_unconditional_images_equal_those_of_stage_sample(unconditional, tmp_path):
    stage = staged(unconditional, tmp_path / "samples", batch_size=NUM)
    found = drawn(load(unconditional), num_images=NUM)
    assert np.array_equal(found, stage)


def test_saved_pipeline_draws_the_same(pipe, saved):
    loaded = load(saved)
    assert loaded.classes == CLASSES
    assert np.array_equal(drawn(loaded, seed=5), drawn(pipe, seed=5))


def test_save_writes_no_pickle_and_no_local_paths(model, saved):
    names = {str(path.relative_to(saved)) for path in saved.rglob("*") if path.is_file()}
    assert names == {
        "README.md",
        "model_index.json",
        "pipeline.py",  # run by diffusers if asked to, never by LiquidGen
        "autoencoder/config.json",
        "autoencoder/diffusion_pytorch_model.safetensors",
        "liquidnet/config.json",
        "liquidnet/diffusion_pytorch_model.safetensors",
        "scheduler/scheduler_config.json",
    }
    for name in names - {name for name in names if name.endswith("safetensors")}:
        text = (saved / name).read_text()
        assert str(model.parent) not in text
        assert str(PROJECT) not in text
        assert str(Path.home()) not in text


def test_save_twice_is_the_same(saved, tmp_path):
    load(saved).save_pretrained(tmp_path / "again")
    for path in saved.rglob("*.safetensors"):
        again = load_file(tmp_path / "again" / path.relative_to(saved))
        assert all(torch.equal(again[name], value) for name, value in load_file(path).items())
    for name in ("model_index.json", "README.md"):
        assert (tmp_path / "again" / name).read_bytes() == (saved / name).read_bytes()


def test_load_in_new_process_outside_checkout(saved, tmp_path):
    """By the names of classes and modules in model_index.json alone."""
    code = f"import liquidgen; print(liquidgen.LiquidGenPipeline.from_pretrained({str(saved)!r}))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={"PYTHONPATH": str(PROJECT), "PATH": "", "HF_HUB_OFFLINE": "1"},
    )
    assert done.returncode == 0, done.stderr
    assert "LiquidNet" in done.stdout


def test_save_after_half_precision_call_keeps_weights(saved, tmp_path, monkeypatch):
    pipe = load(saved)
    monkeypatch.setattr(pipeline, "autoencoder_dtype", lambda precision, device: torch.bfloat16)
    half = drawn(pipe, seed=5)
    monkeypatch.undo()
    assert not np.array_equal(half, drawn(pipe, seed=5))
    pipe.save_pretrained(tmp_path / "again")
    for path in saved.rglob("*.safetensors"):
        again = load_file(tmp_path / "again" / path.relative_to(saved))
        assert all(torch.equal(again[name], value) for name, value in load_file(path).items())


def test_classes_by_name_or_id(pipe):
    named = drawn(pipe, ["dots", "hills"])
    assert np.array_equal(named, drawn(pipe, [2, 0]))
    assert np.array_equal(named, drawn(pipe, ["dots", 0]))
    assert not np.array_equal(named[0], named[1])


@pytest.mark.parametrize(
    "classes",
    [
        [np.int64(2), np.int64(0)],
        np.array([2, 0]),
        torch.tensor([2, 0]),
        [torch.tensor(2), "0"],
        ("dots", np.str_("hills")),
    ],
)
def test_classes_of_other_libraries(pipe, classes):
    assert pipe.image_labels(classes) == [2, 0]


def test_numbers_of_other_libraries_are_the_same_numbers(pipe):
    options = {"seed": np.int64(3), "num_inference_steps": torch.tensor(2)}
    options |= {"num_images": np.int64(3), "batch_size": np.int32(2)}
    found = drawn(pipe, np.int64(1), guidance_scale=np.float32(2), **options)
    same = drawn(pipe, 1, num_images=3, guidance_scale=2, seed=3, batch_size=2)
    assert np.array_equal(found, same)
    seeds = drawn(pipe, num_images=2, seed=np.array([4, 5]))
    assert np.array_equal(seeds, drawn(pipe, num_images=2, seed=[4, 5]))


NUMBERED = tuple(sorted(str(number) for number in range(1, 13)))  # as folders are sorted


@pytest.mark.parametrize(
    ("asked", "label"),
    [(3, NUMBERED.index("3")), ("3", NUMBERED.index("3")), (12, NUMBERED.index("12")), (0, 0)],
)
def test_number_is_the_class_of_that_name_or_else_the_id(asked, label):
    assert resolve_labels(asked, None, NUMBERED, 12) == [label]


def test_mixture_is_drawn_from_the_weights_of_its_classes(pipe):
    first, second = drawn(pipe, ["hills", "marble"], seed=[(0, 0), (0, 0)])
    seeds = {"seed": [(0, 0)] * 4}
    halves = {"hills": 0.5, "marble": 0.5}
    found = drawn(pipe, [{"hills": 3}, {"marble": 1, "hills": 0}, halves, "hills"], **seeds)
    assert np.array_equal(found[0], first)
    assert np.array_equal(found[1], second)
    assert np.array_equal(found[3], first)
    assert min(abs(found[2] - one).max() for one in (first, second)) > 1
    assert pipe.image_labels({"marble": 2, "0": 2}) == [{CLASSES.index("marble"): 0.5, 0: 0.5}]
    assert pipe.image_labels([{"marble": 2, "hills": 0}]) == [CLASSES.index("marble")]


def test_one_class_with_several_images(pipe):
    images = drawn(pipe, "marble", num_images=3)
    assert images.shape == (3, IMAGE_SIZE, IMAGE_SIZE, 3)
    assert len({image.tobytes() for image in images}) == 3
    assert drawn(pipe).shape[0] == len(CLASSES)


def test_each_image_has_its_own_seed(pipe):
    many = drawn(pipe, "hills", num_images=4, seed=9)
    one = drawn(pipe, "hills", num_images=1, seed=[(9, 2)])
    assert abs(one[0] - many[2]).max() <= 1  # another batch size may round otherwise
    chosen = drawn(pipe, "hills", num_images=2, seed=[9, (9, 1)])
    assert abs(chosen - many[:2]).max() <= 1
    assert abs(drawn(pipe, "hills", seed=10) - many[:1]).max() > 1


@pytest.mark.parametrize("batch_size", [1, 3, 100])
def test_images_do_not_depend_on_batch_size(pipe, batch_size):
    found = drawn(pipe, num_images=NUM, batch_size=batch_size)
    assert abs(found - drawn(pipe, num_images=NUM)).max() <= 1


def test_progress_bar_counts_model_calls(model, capsys):
    pipe = LiquidGenPipeline.from_pretrained(model)
    pipe.scheduler = SOLVERS["heun"]()
    pipe(num_images=4, num_inference_steps=3, batch_size=2)
    assert "10/10" in capsys.readouterr().err  # two batches, twice each step but the last


def test_defaults_equal_params_yaml():
    section = load_params(PROJECT / "params.yaml").sample
    defaults = (files.SOLVER, pipeline.NUM_INFERENCE_STEPS, pipeline.GUIDANCE_SCALE)
    assert defaults == (section.solver, section.num_inference_steps, section.guidance_scale)


@pytest.mark.parametrize(
    ("arguments", "rule"),
    [
        (
            {"class_labels": "cubism"},
            "class 'cubism': not known; choose 0 to 2, or a name: ",
        ),
        ({"class_labels": [0, 3]}, "class 3: not known"),
        ({"class_labels": -1}, "class -1: not known"),
        ({"class_labels": []}, "0 images of 0 classes; ask for at least one"),
        ({"num_images": 0}, "ask for at least one"),
        ({"seed": [1, 2]}, "seed: 2 of them for 3 images"),
        ({"class_labels": {"cubism": 1}}, "class 'cubism': not known"),
        ({"class_labels": {"hills": -1}}, "class 'hills': weight -1; must be a number from 0 on"),
        ({"class_labels": {"hills": "all"}}, "class 'hills': weight 'all'; must be a number"),
        ({"class_labels": {"hills": 1e308, "marble": 1e308}}, "the weights' sum must be above 0"),
        ({"class_labels": [{"hills": 0}]}, "the weights' sum must be above 0"),
        ({"class_labels": {}}, "the weights' sum must be above 0"),
        ({"num_inference_steps": 0}, "num_inference_steps: 0; must be at least 1"),
        ({"batch_size": 0}, "batch_size: 0; must be at least 1"),
        ({"guidance_scale": 0.5}, "guidance_scale: 0.5; must be at least 1"),
        ({"guidance_scale": float("nan")}, "guidance_scale: nan; must be at least 1"),
        ({"guidance_scale": float("inf")}, "guidance_scale: inf; must be finite"),
        ({"seed": -1}, "seed: -1; must be at least 0"),
        ({"seed": 1.5}, "seed: 1.5; must be a whole number"),
        ({"seed": [0, (1, 2, 3), 0]}, "seed: (1, 2, 3); must be a number, or a pair of numbers"),
        ({"class_labels": True}, "class: True; must be a whole number"),
        ({"class_labels": np.bool_(True)}, "class: True; must be a whole number"),
        ({"class_labels": [1.0]}, "class: 1.0; must be a whole number"),
        (
            {"class_labels": ["hils"]},
            "class 'hils': not known; choose 0 to 2, or a name: did you mean",
        ),
        ({"class_labels": "a\x1b[2J\n\u202eb"}, r"class 'a\x1b[2J\n\u202eb': not known"),
        ({"class_labels": "9" * 5000}, "class '99999"),
        ({"num_images": 2.5}, "num_images: 2.5; must be a whole number"),
        ({"num_inference_steps": "many"}, "num_inference_steps: 'many'; must be a whole number"),
        ({"guidance_scale": "high"}, "guidance_scale: 'high'; must be a number"),
        ({"seed": [0, (3, -1), 0]}, "seed: -1; must be at least 0"),
    ],
)
def test_invalid_arguments_are_one_line(pipe, arguments, rule):
    with pytest.raises(UserError, match=re.escape(rule)) as refused:
        pipe(**arguments)
    assert "\n" not in str(refused.value)


def test_classes_of_unconditional_model_are_refused(unconditional):
    with pytest.raises(UserError, match="'hills', but the model has no classes"):
        load(unconditional)("hills")


def test_model_without_null_labels_is_unguided(tmp_path):
    untrained = metadata(CLASSES).model_copy(update={"recipe": {"label_dropout": 0.0}})
    save_model(tmp_path / "model", network(len(CLASSES)), untrained, "run")
    pipe = load(tmp_path / "model")
    assert np.array_equal(drawn(pipe), drawn(pipe, guidance_scale=1))
    with pytest.raises(UserError, match="nothing to guide away from"):
        pipe(guidance_scale=2.0)


def test_damaged_model_folder_is_refused(model, tmp_path):
    shutil.copytree(model, tmp_path / "model")
    next((tmp_path / "model").rglob("*.safetensors")).write_bytes(b"")
    with pytest.raises(UserError, match="has 0 bytes instead of"):
        load(tmp_path / "model")


SCORES = {
    "fd": 6.1321,
    "protocol": {
        "num_compared": 500,
        "num_reference": 513,
        "feature_network": "builtin",
        "sampling": {"solver": "euler"},
    },
}


def test_card_has_training_scores_and_license(saved):
    card = ModelCard.load(saved / "README.md")
    assert card.data.library_name == "diffusers"
    assert card.data.license == "cc-by-4.0"
    assert "attention-free" in card.data.tags
    assert "32 px without attention" in card.text
    assert "carry the license of the training images: CC-BY-4.0" in card.text
    assert "| optimizer steps | 1 |" in card.text
    assert "| batch\\_size | 32 |" in card.text
    assert "Classes: hills, marble, dots." in card.text
    assert "Not evaluated." in card.text


def test_card_license_unknown_to_hub_is_given_by_name():
    known = metadata(None).model_copy(update={"license": "mixed (for testing only)"})
    card = model_card(known, "liquid", SCORES)
    assert card.data.license == "other"
    assert card.text.rstrip().endswith("mixed (for testing only).")
    assert "| fd | 6.132 |" in card.text


def test_card_quotes_scores_with_intervals():
    quote = "FD 6.132 [5.9, 6.4] (LiquidGen's builtin features, 500 samples)"
    scores = {**SCORES, "intervals": {"fd": [5.9, 6.4]}, "quotes": [quote]}
    text = model_card(metadata(None), "liquid", scores).text
    assert "> FD 6.132 \\[5.9, 6.4\\] (LiquidGen's builtin features, 500 samples)" in text
    assert "| fd | 6.132 \\[5.9, 6.4\\] |" in text
    assert "by the features of builtin" in text


@pytest.mark.parametrize("same", [True, False])
def test_card_has_scores_only_of_these_weights(model, tmp_path, same):
    folder = tmp_path / "data/models/run"
    shutil.copytree(model, folder)
    digest = load_model(folder)[1].weights.sha256 if same else "0" * 64
    scores = {**SCORES, "protocol": SCORES["protocol"] | {"sampling": {"weights_digest": digest}}}
    (tmp_path / "metrics").mkdir()
    (tmp_path / "metrics/evaluate.json").write_text(json.dumps(scores))
    load(folder).save_pretrained(tmp_path / "saved")
    text = (tmp_path / "saved/README.md").read_text()
    assert ("| fd | 6.132 |" in text) == same
    assert ("Not evaluated." in text) != same
    load(tmp_path / "saved").save_pretrained(tmp_path / "again")  # scores travel
    assert (tmp_path / "again/README.md").read_text() == text


NASTY = "<script>x</script> ![a](http://e/x.png) | \x1b[2J\n# owned\n```\n\u202e_b_"


def test_card_shows_names_literally():
    """HTML, links, tables, code, control characters, and the direction of text."""
    changes = {"classes": (NASTY,), "license": NASTY, "dataset": NASTY, "name": NASTY}
    nasty = metadata(("a",)).model_copy(update=changes | {"recipe": {"label_dropout": NASTY}})
    protocol = {**SCORES["protocol"], "sampling": {NASTY: NASTY}}
    text = model_card(nasty, "liquid", {NASTY: 1.0, "quotes": [NASTY], "protocol": protocol}).text
    assert not re.search(r"<script|\x1b|\u202e|(?<!\\)\[a\]|^# owned", text, re.MULTILINE)
    lines = [line for line in text.splitlines() if line.startswith("| ") and "owned" in line]
    assert len(lines) == 4  # dataset, license, recipe, scores
    assert all(len(re.findall(r"(?<!\\)\|", line)) == 3 for line in lines)
    fences = [line for line in text.splitlines() if line.startswith("```")]
    assert fences == ["```python", "```"]
    (example,) = re.findall(r"^pipe\((.*), num_images", text, re.MULTILINE)
    assert ast.literal_eval(example) == NASTY


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"protocol": 1}', '{"protocol": {"a": 1}}'])
def test_damaged_scores_do_not_stop_drawing(model, tmp_path, caplog, content):
    folder = tmp_path / "data/models/run"
    shutil.copytree(model, folder)
    (tmp_path / "metrics").mkdir()
    (tmp_path / "metrics/evaluate.json").write_text(content)
    assert load(folder).config.scores is None
    assert "damaged, the scores are left out" in caplog.text


def test_model_folder_near_root_has_no_scores():
    assert read_scores(Path("/content/model"), "0" * 64) is None
    assert read_scores(Path("/"), "0" * 64) is None


def test_push_then_load_from_hub(hub: StandInHub, pipe, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    url = pipe.push_to_hub("people/liquid")
    assert url.startswith(f"{hub.url}/people/liquid/")
    assert "CC-BY-4.0" in ModelCard.load("people/liquid").text
    loaded = load("people/liquid")
    assert np.array_equal(drawn(loaded, seed=2), drawn(pipe, seed=2))
    pipe.push_to_hub("people/liquid")  # to the existing repository


def test_push_without_token_is_one_line(hub: StandInHub, pipe):
    with pytest.raises(UserError, match=r"people/liquid: .* set HF_TOKEN to a token that") as no:
        pipe.push_to_hub("people/liquid")
    assert "\n" not in str(no.value)
    assert not hub.repositories


@pytest.mark.parametrize(
    ("answer", "rule"),
    [
        ({"status": 403, "message": "not yours"}, r"not yours.*set HF_TOKEN to a token that may"),
        ({"status": 429, "headers": {"Retry-After": "400"}}, "limits the rate of requests .*wait"),
        ({"status": 500}, "the hub returned status 500; run it again"),
    ],
)
def test_push_refused_by_hub_is_one_line(hub: StandInHub, pipe, monkeypatch, answer, rule):
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    refused = pytest.raises(UserError, match=f"people/liquid: .*{rule}")
    with hub.fault("api/repos/create", **answer), refused as no:
        pipe.push_to_hub("people/liquid")
    assert "\n" not in str(no.value)
    assert ("HF_TOKEN" in str(no.value)) == (answer["status"] != 500)


def test_push_to_unreachable_hub_is_one_line(hub: StandInHub, pipe, monkeypatch):
    monkeypatch.setattr(hf_api.api, "endpoint", "http://127.0.0.1:9")
    with pytest.raises(UserError, match=r"the hub cannot be reached .*run it again") as no:
        pipe.push_to_hub("people/liquid", token="hf_secret")
    assert "\n" not in str(no.value)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match="people/liquid: HF_HUB_OFFLINE is set; unset it") as no:
        pipe.push_to_hub("people/liquid", token="hf_secret")
    assert "\n" not in str(no.value)


def test_push_to_hanging_hub_is_one_line(hub: StandInHub, pipe, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    monkeypatch.setattr(hub_io, "SILENCE", 0.5)
    refused = pytest.raises(UserError, match=r"the hub cannot be reached .*timed out.*run it again")
    with hub.fault("api/repos/create", stall=True), refused as no:
        pipe.push_to_hub("people/liquid")
    assert "\n" not in str(no.value)


@pytest.mark.parametrize("name", ["a/b/c", "bad name", ""])
def test_push_to_invalid_name_is_one_line(hub: StandInHub, pipe, name):
    with pytest.raises(UserError, match=f"'{name}': no name of a repository; .*owner/name") as no:
        pipe.push_to_hub(name, token="hf_secret")
    assert "\n" not in str(no.value)


def test_load_downloads_no_code_and_no_pickle(hub: StandInHub, saved, tmp_path, monkeypatch):
    shutil.copytree(saved, tmp_path / "served")
    (tmp_path / "served/pipeline.py").write_text("raise SystemExit")
    (tmp_path / "served/liquidnet/diffusion_pytorch_model.bin").write_bytes(b"pickle")
    hub.model("people/liquid", tmp_path / "served")
    load("people/liquid")
    assert not hub.asked("GET", "pipeline.py")
    assert not hub.asked("GET", ".bin")


@pytest.mark.parametrize("effect", [{"stall": True}, {"silent": True, "after": 10}])
def test_load_from_hanging_hub_is_one_line(hub: StandInHub, saved, monkeypatch, effect: dict):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DOWNLOAD_TIMEOUT", 0.3)
    hub.model("people/liquid", saved)
    with hub.fault("/revision/", **effect), pytest.raises(UserError, match="timed out") as refused:
        load("people/liquid")
    assert str(refused.value).startswith("people/liquid: no such folder; ")
    assert "the hub cannot be reached" in str(refused.value)
    assert "check the connection" in str(refused.value)
    assert "\n" not in str(refused.value)


REFUSALS = {
    "limited": ({"status": 429}, "people/liquid: the hub limits the rate of requests; wait"),
    "failing": ({"status": 500}, "people/liquid: the hub returned status 500; run it again"),
}


@pytest.mark.parametrize(("answer", "rule"), REFUSALS.values(), ids=REFUSALS)
def test_load_refused_by_hub_is_one_line(hub: StandInHub, saved, answer: dict, rule: str):
    hub.model("people/liquid", saved)
    with hub.fault("/revision/", **answer), pytest.raises(UserError, match=rule) as refused:
        load("people/liquid")
    assert "\n" not in str(refused.value)


def test_load_of_gated_repository_names_its_terms(hub: StandInHub, saved):
    hub.model("people/liquid", saved)
    hub.repositories["models", "people/liquid"].readers = {"hf_reader"}
    with pytest.raises(UserError, match="people/liquid: requires that its terms are accepted"):
        load("people/liquid")


def test_load_offline_is_one_line(hub: StandInHub, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match=r"people/liquid@main: HF_HUB_OFFLINE is set.*unset it"):
        load("people/liquid")


def test_load_with_full_disk_names_the_disk(hub: StandInHub, monkeypatch):
    def fail(*args: object, **options: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(hub_io, "snapshot_download", fail)
    with pytest.raises(OSError, match="No space left"):
        load("people/liquid")


@pytest.mark.parametrize("name", ["people/none", "no/such/folder", "nothing here"])
def test_load_of_unknown_name_is_one_line(hub: StandInHub, name: str):
    with pytest.raises(UserError, match=f"{name}: no such folder, and the hub .*; corr") as refused:
        load(name)
    assert "\n" not in str(refused.value)


def test_load_of_other_pipeline_is_refused(tmp_path):
    with pytest.raises(UserError, match="no LiquidGen model, but neither"):
        load(tmp_path)
    (tmp_path / "model_index.json").write_text('{"_class_name": "FluxPipeline"}')
    with pytest.raises(UserError, match=r"LiquidGen model, but .FluxPipeline.; give another"):
        load(tmp_path)


def test_names_in_model_index_do_not_change(saved):
    """They are the format of saved pipelines: a renamed module or key would not load them."""
    index = json.loads((saved / "model_index.json").read_bytes())
    assert index["_class_name"] == "LiquidGenPipeline"
    assert index["liquidnet"] == ["liquidgen.models.liquidnet", "LiquidNet"]
    assert {"facts", "scores", "weights", "autoencoder", "scheduler"} < index.keys()
