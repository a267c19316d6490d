"""Bad input of stages: one line for the user, and earlier outputs are untouched."""

import io
import os
import re
import resource
import shutil
import signal
import struct
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.checkout import Checkout, changed

from liquidgen.config.params import STAGES
from liquidgen.runtime.signals import INTERRUPTED
from liquidgen.stages.download.procedural import draw
from liquidgen.tracking.store import Store

pytestmark = pytest.mark.fault("mistakes of users, stage by stage")

OWN = {"dataset": "own_folder", "datasets.own_folder.holdout_fraction": 0.25}
LIMIT = 60_000  # bytes of the largest file that a full disk takes; less than any stage's output


def png(seed: int, side: int = 64) -> bytes:
    file = io.BytesIO()
    draw("marble", side, seed).save(file, "PNG")
    return file.getvalue()


def bomb() -> bytes:
    """A PNG file of 60000 x 60000 pixels in a few bytes."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        )

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(9)))


def fill(checkout: Checkout, counts: dict[str, int], side: int = 64) -> Path:
    """Write images of some classes into the folder of own images."""
    own = checkout.root / "images"
    own.mkdir()
    for name, count in counts.items():
        (own / name).mkdir()
        for i in range(count):
            (own / name / f"{i}.png").write_bytes(png(i, side))
    return own


def outputs(checkout: Checkout) -> dict[str, bytes]:
    """Content of all output files by path, unfinished ones included."""
    folders = [checkout.root / "data", checkout.root / "metrics"]
    paths = [path for folder in folders for path in sorted(folder.rglob("*")) if path.is_file()]
    return {str(path): path.read_bytes() for path in paths}


def refusal(checkout: Checkout, stage: str, **options: object) -> str:
    """Run a stage that must fail, check that no output changed; returns its line of error."""
    before = outputs(checkout)
    done = checkout.stage(stage, **options)
    assert done.returncode == 1
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    lines = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, done.stderr
    assert done.stderr.splitlines()[-1] == lines[0]
    assert outputs(checkout) == before
    return lines[0].removeprefix("error: ")


@pytest.mark.parametrize("stage", ["download", "train"])
def test_misspelt_key(stage: str, checkout: Checkout):
    params = checkout.params
    params["train"]["lerning_rate"] = params["train"].pop("learning_rate")
    checkout.write_params(params)
    expected = "train.lerning_rate: unknown key; did you mean train.learning_rate?"
    assert refusal(checkout, stage) == expected


@pytest.mark.parametrize("path", ["data/raw/own_folder", "./images/../data"])
def test_own_images_inside_data(path: str, checkout: Checkout):
    below_data = OWN | {"datasets.own_folder.path": path}
    checkout.write_params(changed(checkout.params, below_data))
    message = refusal(checkout, "download")
    assert message.startswith(f"datasets.own_folder.path: {path} is inside data/")
    assert message.endswith("such as to images/, and set that path")


def test_missing_folder_of_own_images(checkout: Checkout):
    checkout.write_params(changed(checkout.params, OWN))
    message = refusal(checkout, "download")
    assert message.startswith("images: no such folder")
    assert message.endswith("set `path` of the dataset's block")


def test_empty_folder_of_own_images(checkout: Checkout):
    fill(checkout, {"cat": 0})
    checkout.write_params(changed(checkout.params, OWN))
    assert refusal(checkout, "download").startswith("images: no usable image (1 no_images)")


def test_class_with_one_image(checkout: Checkout):
    fill(checkout, {"cat": 3, "dog": 1})
    checkout.write_params(changed(checkout.params, OWN))
    message = refusal(checkout, "download")
    assert message.startswith("images: one image only in class 'dog'")
    assert message.endswith("add images, or remove the class")


def test_unusable_images_are_skipped_and_counted(checkout: Checkout):
    own = fill(checkout, {"cat": 12, "dog": 12})
    bad = {
        "empty.png": b"",
        "bomb.png": bomb(),
        "text.png": b"not an image",
        "cut.png": png(0)[:2000],
        "tiny.png": png(0, 16),
        "notes.txt": b"not an image by its name",
    }
    for name, data in bad.items():
        (own / "cat" / name).write_bytes(data)
    checkout.write_params(changed(checkout.params, OWN))
    download, encode = checkout.stage("download"), checkout.stage("encode")
    assert (download.returncode, encode.returncode) == (0, 0), download.stderr + encode.stderr
    assert download.stdout.endswith(
        "; 2 skipped: 1 empty_file, 1 unsupported_file in data/raw/own_folder; "
        "data/raw/own_folder/skipped.csv lists them: 'cat/empty.png' (empty_file), "
        "'cat/notes.txt' (unsupported_file)\n"
    )
    reasons = "1 too_many_pixels, 1 too_small, 1 truncated, 1 undecodable"
    assert f"; 4 images skipped: {reasons} in data/latents" in encode.stdout
    assert all(name in encode.stdout for name in ("skipped.csv", "bomb.png", "tiny.png"))
    table = (checkout.root / "data/latents/own_folder-64-builtin/skipped.csv").read_text()
    assert {line.rpartition("/")[2] for line in table.splitlines()[1:]} == {
        "bomb.png,too_many_pixels",
        "cut.png,truncated",
        "text.png,undecodable",
        "tiny.png,too_small",
    }
    client = Store(checkout.root).client
    experiment = client.get_experiment_by_name("liquidgen-data")
    newest, *_ = client.search_runs([experiment.experiment_id], "tags.stage = 'encode'")
    assert "skipped.csv" in [a.path for a in client.list_artifacts(newest.info.run_id)]
    counts = [int(word) for word in encode.stdout.replace(";", " ").split() if word.isdigit()]
    assert counts[0] + counts[1] == 24


def test_images_that_are_all_too_small(checkout: Checkout):
    fill(checkout, {"cat": 6, "dog": 6}, side=20)
    checkout.write_params(changed(checkout.params, OWN))
    assert checkout.stage("download").returncode == 0
    message = refusal(checkout, "encode")
    assert "no image can be encoded (" in message
    assert "too_small); lower image_size" in message


def test_size_that_is_no_multiple_of_16(checkout: Checkout):
    checkout.change(image_size=72)
    assert refusal(checkout, "download") == "image_size: 72 is not a multiple of 16; use 64 or 80"


GPUS = torch.cuda.device_count()
IMPOSSIBLE = [
    (
        {"machine.device": f"cuda:{GPUS}"},
        f"machine.device: 'cuda:{GPUS}', but there are {GPUS} CUDA devices; use auto or cpu, or "
        "install torch for CUDA",
    ),
    (
        {"machine.device": "cpu", "train.precision": "fp16"},
        "train.precision: fp16 needs a CUDA device; use fp32, bf16 or auto",
    ),
    (
        {"train.batch_size": 161},
        "train.batch_size: 161, but there are only 160 training latents; use a smaller batch or "
        "more images",
    ),
    (
        {"train.num_epochs": 0},
        "train.num_epochs: input should be greater than or equal to 1; it is 0",
    ),
]


@pytest.mark.parametrize(("changes", "line"), IMPOSSIBLE, ids=[str(c) for c, _ in IMPOSSIBLE])
def test_impossible_training_settings(changes: dict[str, Any], line: str, checkout: Checkout):
    checkout.write_params(changed(checkout.params, changes))
    assert refusal(checkout, "train") == line


def flip_a_bit(shard: Path) -> None:
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 1
    replace(shard, bytes(data))


def cut(shard: Path) -> None:
    replace(shard, shard.read_bytes()[:-10_240])


def double(shard: Path) -> None:
    shutil.copyfile(shard, shard.with_name("train-00001.tar"))


def replace(path: Path, data: bytes) -> None:
    path.unlink()
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("damage", "rule"),
    [
        (flip_a_bit, "train-00000.tar: damaged, its sha256 is not the recorded one"),
        (cut, "train-00000.tar: has "),
        (Path.unlink, "train-00000.tar: missing"),
        (double, "train-00001.tar: not in the manifest"),
    ],
)
def test_damaged_shard_is_named_before_training(
    damage: Callable[[Path], None], rule: str, checkout: Checkout
):
    (folder,) = (checkout.root / "data/latents").iterdir()
    damage(folder / "train-00000.tar")
    message = refusal(checkout, "train")
    assert message.startswith(f"data/latents/{folder.name}/{rule}")
    assert "run `liquidgen repair`, then `dvc repro`" in message or message.endswith("`dvc repro`")


@pytest.mark.parametrize("stage", ["sample", "evaluate"])
def test_other_autoencoder_weights_than_of_the_latents(stage: str, checkout: Checkout):
    weights = checkout.root / "liquidgen/latents/builtin/diffusion_pytorch_model.safetensors"
    flip_a_bit(weights)
    message = refusal(checkout, stage)
    assert message.startswith("the builtin autoencoder: weights have digest ")
    assert "but the latents were made with" in message


def test_truncated_weights_of_the_model(checkout: Checkout):
    (weights,) = (checkout.root / "data/models").rglob("*.safetensors")
    replace(weights, weights.read_bytes()[:-1000])
    message = refusal(checkout, "sample")
    size = weights.stat().st_size
    assert f"{weights.name}: has {size} bytes instead of {size + 1000}" in message
    assert message.endswith("run `liquidgen repair`, then `dvc repro`")


@pytest.mark.parametrize("stage", STAGES)
def test_full_disk_leaves_earlier_outputs(stage: str, checkout: Checkout):
    limit = partial(resource.setrlimit, resource.RLIMIT_FSIZE, (LIMIT, LIMIT))
    message = refusal(checkout, stage, preexec_fn=limit)
    needs = r"no space left on the disk at \S+ \(it needs (more than )?\d+ bytes, \d+ free\); "
    assert re.match(needs, message), message
    assert "free some, then run `dvc repro` again" in message


@pytest.mark.parametrize(
    ("stage", "number"),
    [
        ("download", signal.SIGINT),
        ("encode", signal.SIGINT),
        ("train", signal.SIGINT),
        ("download", signal.SIGTERM),
        ("encode", signal.SIGTERM),
    ],
)
def test_interruption_is_one_line_with_workers(
    stage: str, number: signal.Signals, checkout: Checkout
):
    much = {
        "download": {"datasets.procedural.num_images": 100_000},
        "encode": {"datasets.procedural.num_images": 3000},
        "train": {"train.num_epochs": 100_000},
    }
    many = much[stage] | {"machine.num_workers": 2}
    checkout.write_params(changed(checkout.params, many))
    if stage == "encode":
        assert checkout.stage("download").returncode == 0
    before = outputs(checkout)
    with checkout.start("python", "-m", f"stages.{stage}") as process:
        seen = b""
        while b" 0%" not in seen or seen.count(b"img/s") < 3:  # images are coming
            seen += os.read(process.stderr.fileno(), 1000)
        # a terminal interrupts the workers, too; a service manager may end the stage alone
        send = os.killpg if number == signal.SIGINT else os.kill
        send(process.pid, number)
        _, rest = process.communicate()
    assert process.returncode == INTERRUPTED
    assert b"Traceback" not in rest
    how = rb" at step \d+, all progress is saved" if stage == "train" else b""
    assert re.search(rb"^stopped%s; `dvc repro` continues" % how, rest, re.MULTILINE)
    assert outputs(checkout) == before
