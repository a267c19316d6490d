"""Encode, train and sample on three nodes of Ray: same results, and losses cost little."""

import ast
import io
import json
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from importlib import metadata
from pathlib import Path
from threading import Thread

import numpy as np
import pytest
from helpers.checkout import PROJECT, Checkout
from helpers.processes import TOLERANCE, WAIT_SECONDS, curve, trained_alone, wait_for
from helpers.ray_cluster import LocalCluster, local_cluster
from PIL import Image

from liquidgen.images.raw import RawDataset
from liquidgen.latents.manifest import Manifest, read_manifest


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    """A cluster; a test that loses a node adds one."""
    with local_cluster(tmp_path_factory.mktemp("home")) as running:
        yield running


@pytest.fixture
def home(cluster: LocalCluster, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Home folder of the nodes."""
    return tmp_path_factory.getbasetemp() / "home0"


def on(cluster: LocalCluster, checkout: Checkout, **changes: object) -> Checkout:
    """Let the stages of a checkout run on a cluster."""
    checkout.change(machine__engine="ray", machine__ray_address=cluster.address, **changes)
    return checkout


def manifest_of(checkout: Checkout) -> Manifest:
    (folder,) = (checkout.root / "data/latents").iterdir()
    return read_manifest(folder)


def finished_parts(checkout: Checkout) -> list[Path]:
    return sorted((checkout.root / "work/encode").glob("*/*/*.json"))


def test_encode_is_the_same_though_the_driver_and_a_node_are_lost(
    cluster: LocalCluster, checkout: Checkout
):
    checkout.change(datasets__procedural__num_images=4200, datasets__procedural__render_size=64)
    for stage in ("download", "encode"):
        assert checkout.stage(stage).returncode == 0
    expected = manifest_of(checkout)
    shutil.rmtree(checkout.root / "data/latents")
    on(cluster, checkout)

    # the driver is killed: finished parts stay
    with checkout.start("python", "-m", "stages.encode") as encode:
        wait_for(lambda: finished_parts(checkout))
        encode.kill()
    kept = finished_parts(checkout)
    before = [path.stat().st_mtime_ns for path in kept]
    assert len(kept) < 5

    # a node is lost, and one comes
    with checkout.start("python", "-m", "stages.encode") as encode:
        wait_for(lambda: len(finished_parts(checkout)) > len(kept))
        after = [path.stat().st_mtime_ns for path in kept]
        cluster.lose_node()
        assert len(finished_parts(checkout)) < 5
        cluster.add_node()
        out, err = encode.communicate()
        assert encode.returncode == 0, err.decode()
    assert after == before
    assert manifest_of(checkout) == expected
    assert b"encode: latents: " in out
    assert b"Traceback" not in err


def test_training_goes_on_after_a_lost_process(
    cluster: LocalCluster, checkout: Checkout, home: Path
):
    """Nodes have latents of their own: a damaged copy is made again."""
    changes = {"train__num_epochs": 40, "train__preview_every": 0, "train__validate_every": 20}
    checkout.change(train__checkpoint_every=0.5, train__seed=1, **changes)
    expected = trained_alone(checkout)

    (latents,) = (checkout.root / "data/latents").iterdir()
    cache = home / ".cache/liquidgen/cluster" / read_manifest(latents).digest[:16]
    copy = cache / "data/latents" / latents.name
    shutil.copytree(latents, copy)
    shard = next(copy.glob("*.tar"))
    shard.write_bytes(shard.read_bytes()[:-1])

    on(cluster, checkout, machine__num_processes=2)
    with checkout.start("python", "-m", "stages.train") as train:
        wait_for(lambda: [*(checkout.root / "work/train").glob("*/step-*")])
        cluster.workers("RayTrainWorker")[-1].kill()
        out, err = train.communicate()
        assert train.returncode == 0, err.decode()
    assert b"WARNING: train: a process was lost (" in err
    assert b"Traceback" not in err
    assert out.count(b"train: 200 steps in ") == 1
    np.testing.assert_allclose(curve(checkout), expected, rtol=TOLERANCE)
    assert shard.read_bytes() == (latents / shard.name).read_bytes()


def test_stopped_training_saves(cluster: LocalCluster, checkout: Checkout):
    changes = {"train__num_epochs": 400, "train__preview_every": 0, "train__checkpoint_every": 600}
    on(cluster, checkout, machine__num_processes=2, train__seed=3, **changes)
    with checkout.start("python", "-m", "stages.train") as train:
        wait_for(lambda: [*(checkout.root / "work/train").glob("*/epochs-400/metrics.jsonl")])
        time.sleep(2)
        train.terminate()
        _, err = train.communicate()
    assert train.returncode == 130
    pattern = r"^stopped at step (\d+), all progress is saved; `dvc repro` continues"
    step = re.search(pattern, err.decode(), re.MULTILINE)
    assert step, err.decode()
    saved = {path.name[5:14] for path in (checkout.root / "work/train").glob("*/step-*")}
    assert f"{int(step[1]):09d}" in saved


def test_samples_are_those_of_one_machine(
    cluster: LocalCluster, checkout: Checkout, tmp_path: Path
):
    (folder,) = (checkout.root / "data/samples").iterdir()
    settings = {"sample__num_images": 40, "sample__batch_size": 10}
    checkout.change(**settings)
    assert checkout.stage("sample").returncode == 0
    expected = shutil.move(folder, tmp_path / "expected")
    done = on(cluster, checkout).stage("sample")
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"sample: 40 images in data/samples/{folder.name}, look at " + (
        f"data/samples/{folder.name}/grid.png\n"
    )
    names = sorted(path.name for path in expected.iterdir())
    assert sorted(path.name for path in folder.iterdir()) == names
    infos = [json.loads((one / "dataset.json").read_bytes()) for one in (expected, folder)]
    assert infos[0]["sampling"] == infos[1]["sampling"]
    records = zip(*(RawDataset(one).records("samples") for one in (expected, folder)), strict=True)
    for first, second in records:
        assert first.path == second.path
        assert first.label == second.label
        pixels = [
            np.asarray(Image.open(io.BytesIO(one.data))).astype(int) for one in (first, second)
        ]
        assert abs(pixels[0] - pixels[1]).max() <= 1  # other numbers of threads may round otherwise


def test_error_of_a_worker_is_one_line(cluster: LocalCluster, checkout: Checkout):
    """Weights that a node cannot find: the path is the checkout's, wherever the worker is."""
    folder = shutil.copytree(checkout.root / "liquidgen/latents/builtin", checkout.root / "own")
    checkout.change(autoencoders__builtin__path="own", encode__seed=1)
    on(cluster, checkout)
    with checkout.start("python", "-m", "stages.encode") as encode:
        wait_for(lambda: [*(checkout.root / "work/encode").glob("*/*")])
        shutil.rmtree(folder)
        _, err = encode.communicate()
    lines = [line for line in err.decode().splitlines() if line.startswith("error: ")]
    assert encode.returncode == 1
    assert len(lines) == 1
    assert str(folder) in lines[0]
    assert b"Traceback" not in err


def test_error_of_the_stage_is_one_line(cluster: LocalCluster, checkout: Checkout):
    on(cluster, checkout, machine__num_processes=2, train__accumulation_steps=32)
    done = checkout.stage("train")
    assert done.returncode == 1
    assert [line for line in done.stderr.splitlines() if not line.startswith("WARNING")] == [
        "error: train.accumulation_steps: 32, but a process has only 16 samples of a batch; lower "
        "it"
    ]


def refusal(checkout: Checkout, stage: str = "encode") -> str:
    began = time.monotonic()
    done = checkout.stage(stage)
    assert done.returncode == 1
    assert time.monotonic() - began < WAIT_SECONDS
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    return line.removeprefix("error: ")


@pytest.mark.parametrize("stage", ["encode", "train"])
def test_missing_cluster_is_one_line(checkout: Checkout, stage: str):
    checkout.change(machine__engine="ray", machine__ray_address="127.0.0.1:1")
    assert refusal(checkout, stage) == (
        "machine.ray_address: no Ray of this version answers at 127.0.0.1:1 ([Errno 111] Connection"
        " refused); start it there with `ray start --head`, or correct the address"
    )


def test_other_service_is_one_line(checkout: Checkout):
    with HTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        address = f"127.0.0.1:{server.server_port}"
        checkout.change(machine__engine="ray", machine__ray_address=address)
        line = refusal(checkout)
        server.shutdown()
    assert line.startswith(f"machine.ray_address: no Ray of this version answers at {address} (")


def test_gpu_that_no_node_has_is_one_line(cluster: LocalCluster, checkout: Checkout):
    on(cluster, checkout, machine__device="cuda")
    assert refusal(checkout).startswith(
        "machine.device: cuda, but no node of the cluster has a GPU;"
    )


def test_other_version_of_ray_is_one_line(cluster: LocalCluster, checkout: Checkout):
    on(cluster, checkout)
    cluster.claim_version("1.0.0")
    try:
        line = refusal(checkout)
    finally:
        cluster.claim_version(metadata.version("ray"))
    assert line.startswith(
        f"machine.ray_address: no Ray of this version answers at {cluster.address} ("
    )
    assert "1.0.0" in line


def test_only_the_cluster_imports_ray():
    """And it does so inside functions: the other stages work without the extra."""
    importing = set()
    for path in sorted((PROJECT / "liquidgen").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            if any(name.split(".")[0] == "ray" for name in names):
                importing.add(str(path.relative_to(PROJECT / "liquidgen")))
    assert {Path(path).parts[0] for path in importing} == {"cluster"}
    modules = ("stages.encode.stage", "stages.train.stage", "cluster.mapping", "cluster.training")
    code = "".join(f"import liquidgen.{name}; " for name in modules)
    code += "import sys; print('ray' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
