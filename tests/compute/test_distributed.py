"""Several processes of a stage: they end where one does, and end together."""

import csv
import json
import signal
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
from helpers.checkout import Checkout
from PIL import Image
from safetensors.numpy import load_file

from liquidgen.compute.distributed import World
from liquidgen.images.raw import RawDataset
from liquidgen.runtime.signals import INTERRUPTED

PROCESSES = 2
TOLERANCE = 1e-4  # relative: sums in another order differ by 1e-7, wrong gradients by 1e-2
VALIDATION = 2  # column of the curve
PATIENCE = 60  # seconds for processes to end when one of them has


def curve(checkout: Checkout) -> np.ndarray:
    with open(checkout.root / "metrics/train.csv") as file:
        rows = list(csv.DictReader(file))
    return np.array([[float(value) for value in row.values()] for row in rows])


def weights(checkout: Checkout) -> np.ndarray:
    """All of the exported model's, in one row."""
    (path,) = (checkout.root / "data/models").rglob("*.safetensors")
    return np.concatenate([tensor.ravel() for _, tensor in sorted(load_file(path).items())])


def only(folder: Path) -> Path:
    (found,) = folder.iterdir()
    return found


def pixels(checkout: Checkout) -> np.ndarray:
    pictures = sorted(only(checkout.root / "data/samples").glob("0*.png"))
    return np.stack([np.asarray(Image.open(path), np.int16) for path in pictures])


@pytest.mark.parametrize("length", [0, 1, 5, 8])
@pytest.mark.parametrize("size", [1, 2, 3])
def test_shares_are_all_of_it_and_differ_by_one_at_most(length, size):
    shares = [World(rank, size).shard(range(length)) for rank in range(size)]
    assert [item for share in shares for item in share] == list(range(length))
    lengths = [len(share) for share in shares]
    assert max(lengths) - min(lengths) <= 1


def speaks_once(checkout: Checkout, stage: str) -> None:
    """Run a stage, of whose processes one has the closing line."""
    done = checkout.stage(stage)
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr
    assert done.stdout.count(f"{stage}: ") == 1


def test_two_processes_end_where_one_does(checkout: Checkout):
    drawn = pixels(checkout)
    latents = only(checkout.root / "data/latents") / "manifest.json"
    manifest = json.loads(latents.read_bytes())
    scores = json.loads((checkout.root / "metrics/evaluate.json").read_bytes())
    checkout.change(machine__num_processes=PROCESSES)
    for stage in ("sample", "evaluate", "encode"):  # new latents would not fit the model
        speaks_once(checkout, stage)
    assert json.loads(latents.read_bytes())["splits"].keys() == manifest["splits"].keys()
    counts = [
        {name: sum(shard["count"] for shard in split["shards"]) for name, split in m.items()}
        for m in (manifest["splits"], json.loads(latents.read_bytes())["splits"])
    ]
    assert counts[0] == counts[1]
    assert np.abs(pixels(checkout) - drawn).mean() < 1  # of 255
    again = json.loads((checkout.root / "metrics/evaluate.json").read_bytes())
    assert again["protocol"]["num_samples"] == scores["protocol"]["num_samples"]
    assert again["fd"] == pytest.approx(scores["fd"], rel=0.02)
    samples = RawDataset(only(checkout.root / "data/samples"))
    assert samples.counts["samples"] == checkout.params["sample"]["num_images"]


def test_two_processes_that_accumulate_train_as_one_that_does_not(checkout: Checkout):
    # without a warm-up the weights move far: wrong gradients show
    checkout.change(train__warmup_steps=0, train__num_epochs=4, train__preview_every=0)
    speaks_once(checkout, "train")
    alone, expected = curve(checkout), weights(checkout)
    checkout.change(machine__num_processes=PROCESSES, train__accumulation_steps=2)
    speaks_once(checkout, "train")
    np.testing.assert_allclose(curve(checkout), alone, rtol=TOLERANCE)
    distance = np.linalg.norm(weights(checkout) - expected)
    assert distance < TOLERANCE * np.linalg.norm(expected)
    validation = alone[:, VALIDATION]
    assert validation[-1] < (1 - 200 * TOLERANCE) * validation[0]


def test_a_batch_that_does_not_divide_is_refused_once(checkout: Checkout):
    checkout.change(machine__num_processes=PROCESSES, train__batch_size=15)
    refused = checkout.stage("train")
    assert refused.returncode == 1
    assert refused.stderr.count("error: train.batch_size: 15 does not divide by 2") == 1
    assert "Traceback" not in refused.stderr


def long_training(checkout: Checkout) -> None:
    checkout.change(
        machine__num_processes=PROCESSES,
        train__seed=7,
        train__num_epochs=100_000,
        train__checkpoint_every=0.2,
        train__preview_every=0,
    )


def new_checkpoint(checkout: Checkout, since: float) -> Path:
    """The newest checkpoint, once there is one that was written after `since`."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        if found := list((checkout.root / "work/train").glob("*/step-*.safetensors")):
            newest = max(found, key=lambda path: path.stat().st_mtime)
            if newest.stat().st_mtime > since:
                return newest
        time.sleep(0.1)
    raise AssertionError("no checkpoint came")


def ranks(stage: psutil.Process) -> list[psutil.Process]:
    found = [child for child in stage.children() if "-m" in child.cmdline()]
    return sorted(found, key=lambda child: int(child.environ()["RANK"]))


def test_a_killed_process_ends_the_others_and_the_next_run_goes_on_alone(checkout: Checkout):
    rank, started = PROCESSES - 1, time.time()
    long_training(checkout)
    with checkout.start("python", "-m", "stages.train") as stage:
        new_checkpoint(checkout, started)
        ranks(psutil.Process(stage.pid))[rank].kill()
        _, errors = stage.communicate(timeout=PATIENCE)
        assert stage.returncode == 1
    assert f"process {rank} was killed by SIGKILL" in errors.decode()
    assert "Traceback" not in errors.decode()
    newest = new_checkpoint(checkout, started)
    step = int(newest.name.split("-")[1])
    checkout.change(machine__num_processes=1)
    with checkout.start("python", "-m", "stages.train"):
        later = new_checkpoint(checkout, time.time())
    assert int(later.name.split("-")[1]) > step
    assert later.parent == newest.parent


def test_a_signal_lets_all_processes_save_and_end(checkout: Checkout):
    started = time.time()
    long_training(checkout)
    with checkout.start("python", "-m", "stages.train") as stage:
        new_checkpoint(checkout, started)
        children = ranks(psutil.Process(stage.pid))
        stage.send_signal(signal.SIGTERM)
        _, errors = stage.communicate(timeout=PATIENCE)
    assert stage.returncode == INTERRUPTED
    assert errors.decode().count("all progress is saved; `dvc repro` goes on") == 1
    assert "Traceback" not in errors.decode()
    assert "torch/distributed/elastic" not in errors.decode()  # as it names the place of a log line
    assert not any(child.is_running() for child in children)
