"""The comparison of networks: the search of rates, equal conditions, kills, results."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from helpers.checkout import PROJECT

from benchmarks.quality.field import LIQUIDNET, Field
from benchmarks.quality.plan import Plan
from benchmarks.quality.run import Run
from liquidgen.config.params import load_params
from liquidgen.utils.errors import UserError

SMALL = {
    "datasets.procedural.num_images": 64,
    "models.nano.width": 32,
    "models.nano.depth": 2,
    "sample.num_images": 10,
    "sample.num_steps": 2,
    "evaluate.kid_subset_size": 2,
    "evaluate.nearest_k": 2,
    "train.batch_size": 8,
}
PAIR = (LIQUIDNET, "DiT")


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """Folder of a field with its data."""
    return Field(tmp_path_factory.mktemp("quality") / "small", load_params(changes=SMALL)).folder


@pytest.fixture
def field(data, tmp_path) -> Field:
    shutil.copytree(data, tmp_path / "field")
    return Field(tmp_path / "field", load_params(changes=SMALL))


def _record(run: Run, losses: dict[int, float], seconds: float) -> None:
    run.folder.mkdir(parents=True)
    points = [{"step": s, "validation_loss": v, "seconds": seconds} for s, v in losses.items()]
    run.points_file.write_text("".join(f"{json.dumps(point)}\n" for point in points))


@pytest.mark.parametrize("contestant", PAIR)
def test_run_continues_bitwise(field, contestant):
    Run(field, contestant, 1e-3, 0).turn(2)
    Run(field, contestant, 1e-3, 0).turn(2)  # another object: nothing but the files is left
    interrupted = Run(field, contestant, 1e-3, 0).points()
    shutil.rmtree(field.folder / "runs")
    whole = Run(field, contestant, 1e-3, 0)
    whole.turn(4)
    (end,) = whole.points()
    assert end["step"] == interrupted[-1]["step"] == 4
    assert end["validation_loss"] == interrupted[-1]["validation_loss"]


def test_kill_between_files_loses_nothing(field):
    run = Run(field, LIQUIDNET, 1e-3, 0)
    run.turn(1)
    run.points_file.unlink()  # the checkpoint holds the curve, too
    run.turn(1)
    assert [point["step"] for point in run.points()] == [1, 2]


def test_contestants_see_the_same(field):
    seen = []
    for name in PAIR:
        run = Run(field, name, 1e-3, 0)
        learner, _ = run.load()
        learner.model.register_forward_pre_hook(lambda module, batch: seen.append(batch))
        latents, labels = field.dataset.batch(next(run.batches(0)))
        learner.train_step(field.dataset.contract.normalize(latents), labels)
    noisy, times, labels = zip(*seen, strict=True)
    assert all(torch.equal(*pair) for pair in (noisy, times, labels))


def test_networks_start_at_zero_velocity(field):
    latents, labels = field.dataset.batch(range(4))
    for name in ("DiT", "U-Net", "DiCo", LIQUIDNET):
        network = field.network(name)
        assert not network(latents, torch.rand(4), labels).any(), name


def test_dit_drops_no_labels_itself(field):
    network = field.network("DiT").train()
    torch.nn.init.normal_(network.network.proj_out_2.weight)
    latents, labels = field.dataset.batch(range(16))
    t = torch.rand(16)
    assert torch.equal(network(latents, t, labels), network(latents, t, labels))


def test_search_goes_beyond_the_edge(field):
    plan = Plan(field, [LIQUIDNET], [1e-3, 2e-3, 4e-3], seeds=[5, 6], scan_seconds=10, seconds=20)
    for rate, loss in ((1e-3, 3.0), (2e-3, 2.0), (4e-3, 1.0)):
        _record(Run(field, LIQUIDNET, rate, 5), {10: loss}, seconds=11)
    (added,) = plan.unfinished()
    assert (added.learning_rate, added.seed) == (8e-3, 5)
    _record(added, {10: 1.5}, seconds=11)
    # the best of the search goes on, with all seeds
    assert [(run.learning_rate, run.seed) for run in plan.unfinished()] == [(4e-3, 6), (4e-3, 5)]


def test_rates_are_compared_at_equal_steps(field):
    plan = Plan(field, [LIQUIDNET], [1e-3, 2e-3, 4e-3], seeds=[0], scan_seconds=10, seconds=20)
    _record(Run(field, LIQUIDNET, 1e-3, 0), {10: 3.0, 20: 0.5}, seconds=11)  # 20 steps: a fast turn
    _record(Run(field, LIQUIDNET, 2e-3, 0), {10: 1.0}, seconds=11)
    _record(Run(field, LIQUIDNET, 4e-3, 0), {10: 2.0}, seconds=11)
    assert [run.learning_rate for run in plan.compared(LIQUIDNET)] == [2e-3]


def test_fewest_seconds_go_first(field):
    plan = Plan(field, PAIR, [1e-3, 2e-3, 4e-3], seeds=[0], scan_seconds=10, seconds=20)
    _record(Run(field, LIQUIDNET, 1e-3, 0), {10: 3.0}, seconds=4)
    _record(Run(field, "DiT", 1e-3, 0), {10: 3.0}, seconds=3)
    order = [(run.contestant, run.learning_rate) for run in plan.unfinished()][-2:]
    assert order == [("DiT", 1e-3), (LIQUIDNET, 1e-3)]


def test_other_settings_need_another_folder(field):
    with pytest.raises(UserError, match="other settings"):
        Field(field.folder, load_params(changes=SMALL | {"train.grad_clip": 1.0}))


def test_command_writes_results(data, tmp_path):
    shutil.copytree(data, tmp_path / "field")
    changes = [f"{key}={value}" for key, value in SMALL.items()]
    options = "--rates 1e-6 1e-2 1e2 --seeds 0 1 --scan-seconds .01 --seconds .02 --turn 2"
    command = [sys.executable, "-m", "benchmarks.quality", str(tmp_path / "field")]
    command += ["--set", *changes, "--contestants", *PAIR, *options.split()]
    # twice at the same time: the processes share the work
    processes = [
        subprocess.Popen(command, cwd=PROJECT, stdout=subprocess.PIPE, text=True) for _ in range(2)
    ]
    assert all(process.communicate()[0] is not None for process in processes)
    assert [process.returncode for process in processes] == [0, 0]

    points = (tmp_path / "field/points.jsonl").read_text().splitlines()
    read = map(json.loads, points)
    runs = {(point["contestant"], point["learning_rate"], point["seed"]) for point in read}
    rates = {(name, rate, 0) for name in PAIR for rate in (1e-6, 1e-2, 1e2)}
    assert runs == rates | {(name, 1e-2, 1) for name in PAIR}
    report = (tmp_path / "field/report.md").read_text()
    for name in PAIR:
        rows = [line for line in report.splitlines() if line.startswith(f"| {name} |")]
        assert "noise" in rows[-1]  # scores with their floor and ceiling
    assert all(
        (tmp_path / "field" / f"{plot}.png").stat().st_size for plot in ("seconds", "images")
    )
    images = tmp_path / "field/images"
    assert all((images / name / "samples/grid.png").is_file() for name in PAIR)
