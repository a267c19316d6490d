"""The comparison of networks: the search of rates, equal conditions, kills, results."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.checkout import PROJECT

from benchmarks.baselines import BASELINES, RIVALS, Latents, liquidnet, parameters
from benchmarks.quality.__main__ import main
from benchmarks.quality.field import CONTESTANTS, LIQUIDNET, Field
from benchmarks.quality.plan import Plan, Standing
from benchmarks.quality.report import Result, write_report
from benchmarks.quality.run import Run
from liquidgen.config.params import load_params
from liquidgen.latents.shards import batches
from liquidgen.utils.errors import UserError

SMALL = {
    "datasets.procedural.num_images": 64,
    "models.nano.width": [32, 64],
    "models.nano.depth": [2, 2],
    "sample.num_images": 10,
    "sample.num_inference_steps": 2,
    "evaluate.kid_subset_size": 2,
    "evaluate.nearest_k": 2,
    "train.batch_size": 8,
}
PAIR = (LIQUIDNET, "DiT")
RATES = (1e-3, 2e-3, 4e-3)


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """Folder of a field with its data."""
    folder = tmp_path_factory.mktemp("quality") / "small"
    Field(folder, load_params(changes=SMALL), turn=2)
    return folder


@pytest.fixture
def field(data, tmp_path) -> Field:
    return _copy(data, tmp_path, turn=2)


def _copy(data: Path, tmp_path: Path, **options) -> Field:
    folder = tmp_path / "field"
    shutil.copytree(data, folder)
    (folder / "settings.json").unlink()
    return Field(folder, load_params(changes=SMALL), **options)


def _record(run: Run, losses: dict[int, float], seconds: float, per_step: float = 1.0) -> None:
    """Write a curve; each of its points comes after `seconds` more."""
    run.folder.mkdir(parents=True)
    quarters = [f"validation_loss_t{t:.2f}-{t + 0.25:.2f}" for t in (0, 0.25, 0.5, 0.75)]
    points = [
        {"step": step, "validation_loss": loss, **dict.fromkeys(quarters, loss)}
        | {"seconds": seconds * (i + 1), "seconds_per_step": per_step}
        for i, (step, loss) in enumerate(losses.items())
    ]
    run.points_file.write_text("".join(f"{json.dumps(point)}\n" for point in points))


def _plan(field: Field, contestants=(LIQUIDNET,), seeds=(0,)) -> Plan:
    return Plan(field, contestants, RATES, seeds, scan_seconds=10, seconds=40)


@pytest.mark.parametrize("contestant", PAIR)
def test_run_continues_bitwise(data, tmp_path, contestant):
    ends = []
    for turn, turns in ((2, 2), (4, 1)):
        field = _copy(data, tmp_path / str(turn), turn=turn)
        for _ in range(turns):
            Run(
                field, contestant, 1e-3, 0
            ).turn()  # nothing but the files is left of the one before
        ends.append(Run(field, contestant, 1e-3, 0).read_points()[-1])
    assert ends[0]["step"] == ends[1]["step"] == 4
    assert ends[0]["validation_loss"] == ends[1]["validation_loss"]


def test_kill_between_files_loses_nothing(field):
    run = Run(field, LIQUIDNET, 1e-3, 0)
    run.turn()
    run.points_file.unlink()  # the checkpoint holds the curve, too
    run.turn()
    assert [point["step"] for point in run.read_points()] == [2, 4]


def test_contestants_see_the_same(field):
    seen = []
    for name in CONTESTANTS:
        learner, _ = Run(field, name, 1e-3, 0).load()
        learner.model.register_forward_pre_hook(lambda module, batch: seen.append(batch))
        latents, labels = field.dataset.batch(next(batches(len(field.dataset), 8, 0, 0)))
        learner.train_step(field.dataset.contract.normalize(latents), labels)
    for other in seen[1:]:
        assert all(torch.equal(*pair) for pair in zip(seen[0], other, strict=True))


@pytest.mark.parametrize("contestant", CONTESTANTS)
def test_velocity_starts_at_zero_and_learns(field, contestant):
    latents, labels = field.dataset.batch(range(8))
    learner, _ = Run(field, contestant, 1e-3, 0).load()
    assert not learner.model(latents, torch.rand(8), labels).any()
    losses = [learner.train_step(latents, labels)[0] for _ in range(40)]
    assert np.mean(losses[-5:]) < np.mean(losses[:5])


@pytest.mark.parametrize("name", RIVALS)
def test_rival_uses_all_that_it_is_given(name):
    torch.manual_seed(0)
    network = RIVALS[name](BASELINES["nano"], 1, Latents(8))
    for parameter in network.parameters():  # zeros hide what comes before them
        torch.nn.init.normal_(parameter, std=0.05)
    network.train()
    x, t, labels = torch.randn(4, 16, 8, 8), torch.rand(4), torch.arange(4)
    before = network(x, t, labels)
    assert torch.equal(network(x, t, labels), before)  # it drops no labels of its own
    assert not torch.allclose(network(x, t, labels + 1), before)
    assert not torch.allclose(network(x, 1 - t, labels), before)
    moved = network(x + torch.eye(8)[0, :, None] * torch.eye(8)[0], t, labels) - before
    assert (moved.abs().amax(dim=(0, 1)) > 0).all()  # one position reaches all others


@pytest.mark.parametrize("size", BASELINES)
def test_parameters_are_equal(size):
    params = load_params(changes={"model": size})
    latents = Latents(8 * params.model.patch_size)
    own = parameters(liquidnet(params.model, "liquid", params.raw["blocks"], latents))
    for name, rival in RIVALS.items():
        share = parameters(rival(BASELINES[size], params.model.patch_size, latents)) / own
        assert 0.9 < share < 1.1, name


def test_search_goes_beyond_the_edge(field):
    plan = _plan(field, seeds=(5, 6))
    for rate, loss in zip(RATES, (3.0, 2.0, 1.0), strict=True):
        _record(Run(field, LIQUIDNET, rate, 5), {10: loss}, seconds=11)
    (added,) = Standing(plan).unfinished()
    assert (added.learning_rate, added.seed) == (8e-3, 5)
    _record(added, {10: 1.5}, seconds=11)
    # the best of the search goes on, with all seeds
    left = [(run.learning_rate, run.seed) for run in Standing(plan).unfinished()]
    assert left == [(4e-3, 6), (4e-3, 5)]


def test_rates_are_compared_at_equal_steps(field):
    _record(Run(field, LIQUIDNET, 1e-3, 0), {10: 3.0, 20: 0.5}, seconds=5)  # it had fast turns
    _record(Run(field, LIQUIDNET, 2e-3, 0), {10: 1.0}, seconds=11)
    _record(Run(field, LIQUIDNET, 4e-3, 0), {10: 2.0}, seconds=11)
    (run,) = Standing(_plan(field)).compared(LIQUIDNET)
    assert run.learning_rate == 2e-3


def test_rate_stays_when_the_best_goes_on(field):
    # within the search's 10 seconds 2e-3 is best; later steps of the others do not count
    _record(Run(field, LIQUIDNET, 1e-3, 0), {10: 3.0, 20: 2.9}, seconds=6)
    _record(Run(field, LIQUIDNET, 2e-3, 0), {10: 1.0, 20: 0.9, 30: 0.8}, seconds=11)
    _record(Run(field, LIQUIDNET, 4e-3, 0), {10: 2.0, 20: 0.1}, seconds=6)
    (run,) = Standing(_plan(field)).compared(LIQUIDNET)
    assert run.learning_rate == 2e-3


def test_diverged_rate_is_never_the_best(field):
    for rate, loss in zip(RATES, (float("nan"), 2.0, 3.0), strict=True):
        _record(Run(field, LIQUIDNET, rate, 0), {10: loss}, seconds=11)
    (run,) = Standing(_plan(field)).compared(LIQUIDNET)
    assert run.learning_rate == 2e-3


def test_fewest_seconds_go_first(field):
    _record(Run(field, LIQUIDNET, 1e-3, 0), {10: 3.0}, seconds=4)
    _record(Run(field, "DiT", 1e-3, 0), {10: 3.0}, seconds=3)
    unfinished = Standing(_plan(field, PAIR)).unfinished()
    order = [(run.contestant, run.learning_rate) for run in unfinished][-2:]
    assert order == [("DiT", 1e-3), (LIQUIDNET, 1e-3)]


def test_two_rates_are_no_search(field):
    with pytest.raises(UserError, match="at least 3"):
        Plan(field, PAIR, [1e-3, 2e-3, 2e-3], [0], scan_seconds=10, seconds=20)


def test_seconds_to_a_loss_are_between_points(field):
    for name, losses in ((LIQUIDNET, (3.0, 1.0, 0.5)), ("DiT", (4.0, 2.0, 2.5))):
        for rate, worse in zip(RATES, (1.0, 0.0, 1.0), strict=True):
            curve = {step: loss + worse for step, loss in zip((20, 40, 60), losses, strict=True)}
            _record(Run(field, name, rate, 0), curve, seconds=20)
    plan = _plan(field, PAIR)
    liquid, dit = (Result(Standing(plan), name) for name in PAIR)
    assert dit.seconds_to(2.0) == 40  # its best, not its end
    assert liquid.seconds_to(2.0) == pytest.approx(20 * 2**0.5)
    assert liquid.seconds_to(0.4) is None
    assert liquid.losses_at((40 * 60) ** 0.5) == [pytest.approx(0.75)]
    assert liquid.losses_at(61) == []
    write_report(plan)
    report = (field.folder / "report.md").read_text()
    assert "| 2.0000, 40 s | 28 s: factor 1.41 |" in report
    assert "| 60 | 0.5000 (0.5000 to 0.5000) | 2.5000 (2.5000 to 2.5000) |" in report


@pytest.mark.parametrize("key", ["train.grad_clip", "blocks.liquid.alpha_init"])
def test_other_settings_need_another_folder(field, key):
    with pytest.raises(UserError, match=f"made with other {re.escape(key)}; name another folder"):
        Field(field.folder, load_params(changes=SMALL | {key: 0.7}), turn=2)


def test_other_code_needs_another_folder(field, monkeypatch, tmp_path):
    edited = tmp_path / "dico.py"
    edited.write_text("# another network")
    monkeypatch.setattr("benchmarks.quality.field.RIVALS_CODE", (edited,))
    with pytest.raises(UserError, match=r"made with other code\.rivals;"):
        Field(field.folder, field.params, turn=2)


def test_budget_of_the_shortest_curve_has_all_contestants(field):
    for name, per_step in ((LIQUIDNET, 0.0577), ("DiT", 0.1)):
        for rate, worse in zip(RATES, (1.0, 0.0, 1.0), strict=True):
            _record(Run(field, name, rate, 0), {200: 3.0 + worse, 400: 2.0 + worse}, 20, per_step)
    write_report(_plan(field, PAIR))
    report = (field.folder / "report.md").read_text()
    assert "| 23.08 | 2.0000 (2.0000 to 2.0000) | 2.7934 (2.7934 to 2.7934) |" in report


def test_other_turn_needs_another_folder(field):
    with pytest.raises(UserError, match="made with other turn;"):
        Field(field.folder, field.params, turn=3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--set", "image_size"], "--set image_size: must be KEY=VALUE"),
        (["--set", "image_size=["], "--set image_size=\\[: must be KEY=VALUE"),
        (["--report"], "nothing to report"),
        (["--turn", "0"], "--turn: at least 1"),
    ],
)
def test_mistake_is_one_line(tmp_path, monkeypatch, arguments, message):
    monkeypatch.setattr("sys.argv", ["quality", str(tmp_path / "field"), *arguments])
    with pytest.raises(UserError, match=message):
        main()
    assert not (tmp_path / "field").exists()


def test_command_writes_results(data, tmp_path):
    _copy(data, tmp_path, turn=2)
    changes = [f"{key}={value}" for key, value in SMALL.items()]
    options = "--rates 1e-6 1e-2 1e2 --seeds 0 1 --scan-seconds .01 --seconds .02 --turn 2"
    command = [sys.executable, "-m", "benchmarks.quality", str(tmp_path / "field")]
    command += ["--set", *changes, "--contestants", *PAIR, *options.split()]
    # twice at the same time: the processes share the work
    processes = [
        subprocess.Popen(command, cwd=PROJECT, stdout=subprocess.DEVNULL) for _ in range(2)
    ]
    assert [process.wait() for process in processes] == [0, 0]

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
        (tmp_path / "field" / f"{plot}.png").stat().st_size for plot in ("seconds", "images_seen")
    )
    images = tmp_path / "field/images"
    assert all((images / name / "samples/grid.png").is_file() for name in PAIR)

    # a later call knows the options
    subprocess.run([*command[:4], "--report"], cwd=PROJECT, check=True, capture_output=True)
    assert (tmp_path / "field/report.md").read_text() == report
