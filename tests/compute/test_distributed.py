"""Stages in several processes: same results as in one process, recorded once."""

import json
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from helpers.checkout import Checkout
from helpers.processes import TOLERANCE, curve
from helpers.servers import unused_port
from PIL import Image
from safetensors.numpy import load_file

from liquidgen.compute.distributed import World
from liquidgen.images.raw import RawDataset

NUM_PROCESSES = 2
VALIDATION = 2  # column of the curve


def weights(checkout: Checkout) -> np.ndarray:
    """Return all weights of the exported model as one vector."""
    (path,) = (checkout.root / "data/models").rglob("*.safetensors")
    return np.concatenate([tensor.ravel() for _, tensor in sorted(load_file(path).items())])


def only(folder: Path) -> Path:
    """Return the only entry of a folder."""
    (found,) = folder.iterdir()
    return found


def pixels(checkout: Checkout) -> np.ndarray:
    """Return the samples that are stored as single files, (N, height, width, 3)."""
    paths = sorted(only(checkout.root / "data/samples").glob("0*.png"))
    return np.stack([np.asarray(Image.open(path), np.int16) for path in paths])


@pytest.mark.parametrize("length", [0, 1, 5, 8])
@pytest.mark.parametrize("size", [1, 2, 3])
def test_shards_cover_the_sequence_evenly(length: int, size: int):
    shards = [World(rank, size).shard(range(length)) for rank in range(size)]
    assert [item for shard in shards for item in shard] == list(range(length))
    lengths = [len(shard) for shard in shards]
    assert max(lengths) - min(lengths) <= 1


def run_stage(checkout: Checkout, stage: str) -> None:
    """Run a stage whose closing line only one process prints."""
    done = checkout.stage(stage)
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr
    assert done.stdout.count(f"{stage}: ") == 1


def test_two_processes_with_accumulation_train_like_one(checkout: Checkout):
    # without warmup the weights move far, so that wrong gradients show
    checkout.change(train__warmup_steps=0, train__num_epochs=4, train__preview_every=0)
    run_stage(checkout, "train")
    expected_curve = curve(checkout)
    expected_weights = weights(checkout)
    checkout.change(machine__num_processes=NUM_PROCESSES, train__accumulation_steps=2)
    run_stage(checkout, "train")
    np.testing.assert_allclose(curve(checkout), expected_curve, rtol=TOLERANCE)
    distance = np.linalg.norm(weights(checkout) - expected_weights)
    assert distance < TOLERANCE * np.linalg.norm(expected_weights)
    validation = expected_curve[:, VALIDATION]
    assert validation[-1] < (1 - 200 * TOLERANCE) * validation[0]


MAIN = """
import importlib, os, sys
from liquidgen.config.params import load_params
from liquidgen.config.paths import project_root

stage = importlib.import_module(f"liquidgen.stages.{sys.argv[1]}.stage")
line = stage.main(load_params(), project_root())
report = f"rank {os.environ['RANK']}: {line is not None}, {'mlflow' in sys.modules}\\n"
os.write(1, report.encode())  # one write, which that of another rank does not interrupt
"""


def runs_of(checkout: Checkout, stage: str) -> int:
    """Count the MLflow runs of a stage."""
    with closing(sqlite3.connect(checkout.root / "mlflow.db")) as database:
        query = "select count(*) from tags where key = 'stage' and value = ?"
        return database.execute(query, [stage]).fetchone()[0]


def duplicates(checkout: Checkout) -> list[tuple]:
    """Return points that a run has more than once, except scores copied from its children."""
    query = """
        select run_uuid, metrics.key, step from metrics join tags using (run_uuid)
        where tags.key = 'stage' and metrics.key like tags.value || '/%'
        group by 1, 2, 3 having count(*) > 1
    """
    with closing(sqlite3.connect(checkout.root / "mlflow.db")) as database:
        return database.execute(query).fetchall()


def test_two_processes_match_one_and_only_rank_zero_records(checkout: Checkout):
    """Equal results, and only rank 0 has a closing line, connects to MLflow and records."""
    pixels_before = pixels(checkout)
    manifest_path = only(checkout.root / "data/latents") / "manifest.json"
    manifest_before = json.loads(manifest_path.read_bytes())
    scores_before = json.loads((checkout.root / "metrics/evaluate.json").read_bytes())
    shutil.rmtree(checkout.root / "work/cache", ignore_errors=True)  # of features
    checkout.change(train__seed=1)  # so that there is something to train
    torchrun = ("torchrun", f"--nproc-per-node={NUM_PROCESSES}", "--no-python", "python", "-c")
    # encode after what samples: new latents would not fit its model
    for stage in ("sample", "evaluate", "encode", "train"):
        runs = runs_of(checkout, stage)
        done = checkout.run(*torchrun, MAIN, stage)
        assert done.returncode == 0, done.stderr
        assert "Warning" not in done.stderr
        ranks = sorted(line for line in done.stdout.splitlines() if line.startswith("rank "))
        assert ranks == ["rank 0: True, True", "rank 1: False, False"], stage
        assert runs_of(checkout, stage) == runs + 1
    assert duplicates(checkout) == []
    checkout.change(machine__num_processes=NUM_PROCESSES)
    run_stage(checkout, "encode")  # as `dvc repro` starts two processes

    manifest = json.loads(manifest_path.read_bytes())
    assert manifest["splits"].keys() == manifest_before["splits"].keys()
    counts = [
        {
            name: sum(shard["count"] for shard in split["shards"])
            for name, split in content["splits"].items()
        }
        for content in (manifest_before, manifest)
    ]
    assert counts[0] == counts[1]
    assert np.abs(pixels(checkout) - pixels_before).mean() < 1  # of 255
    scores = json.loads((checkout.root / "metrics/evaluate.json").read_bytes())
    assert scores["protocol"]["num_samples"] == scores_before["protocol"]["num_samples"]
    assert scores["fd"] == pytest.approx(scores_before["fd"], rel=0.02)
    samples = RawDataset(only(checkout.root / "data/samples"))
    assert samples.counts["samples"] == checkout.params["sample"]["num_images"]


def test_checkouts_with_folders_of_their_own_train_together(checkout: Checkout, tmp_path: Path):
    """Only the first one has checkpoints: the others need latents and settings alone."""
    checkout.change(train__seed=2, train__num_epochs=1, train__preview_every=0)
    run_stage(checkout, "train")
    checkout.change(train__num_epochs=3)
    assert checkout.stage("train").returncode == 0
    expected = curve(checkout)
    work = max((checkout.root / "work/train").glob("*/epochs-3")).parent
    later = [path for path in work.glob("step-*") if path.name > "step-000000005-g"]
    for path in (*later, *work.glob("epochs-3")):
        shutil.rmtree(path) if path.is_dir() else path.unlink()

    other = Checkout(shutil.copytree(checkout.root, tmp_path / "other", symlinks=True))
    for name in ("work", "data/raw", "data/models", "data/samples", "metrics", "mlflow.db"):
        path = other.root / name
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    at = ("--nnodes=2", "--nproc-per-node=1", "--master-addr=127.0.0.1")
    command = ("torchrun", *at, f"--master-port={unused_port()}")
    stage = ("-m", "stages.train")
    with other.start(*command, "--node-rank=1", *stage) as second:
        done = checkout.run(*command, "--node-rank=0", *stage)
        _, told = second.communicate()
    assert done.returncode == second.returncode == 0, done.stderr + told.decode()
    assert "train: continues after step 5\n" in done.stdout
    np.testing.assert_allclose(curve(checkout), expected, rtol=TOLERANCE)
    assert not (other.root / "data/models").exists()
