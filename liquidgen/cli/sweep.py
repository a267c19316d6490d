"""`liquidgen sweep`: score a trained model at a grid of guidance scales, steps and solvers."""

import csv
import itertools
import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

from typer import Option

from liquidgen.config.params import Params, load_params
from liquidgen.config.settings import SampleSettings, validate
from liquidgen.figures import GRID
from liquidgen.runtime.extras import require_extra
from liquidgen.runtime.fingerprint import fingerprint
from liquidgen.score_names import real_name
from liquidgen.utils.errors import UserError
from liquidgen.utils.files import canonical_json, new_folder, sha256

if TYPE_CHECKING:
    import torch

    from liquidgen.generator.model_folder import SavedModel
    from liquidgen.models.liquidnet import LiquidNet

Value = TypeVar("Value", int, float, str)
SCORES = ("fd", "fd_pca", "kid", "class_accuracy")  # columns of sweep.csv, and figures
CODE = ("liquidgen.stages.sample.sample", "liquidgen.stages.evaluate.evaluate")
NETWORKS = "liquidgen.features"  # of which one is imported by its name, as is a block of:
BLOCKS = "liquidgen.models.blocks"

GuidanceScale = Annotated[str, Option(metavar="LIST", help="Guidance scales, such as 1,1.5,2.5.")]
NumInferenceSteps = Annotated[
    str, Option(metavar="LIST", help="Steps of the solver, such as 10,25,50.")
]
Solver = Annotated[str, Option(metavar="LIST", help="Solvers, such as euler,heun.")]


@dataclass(frozen=True)
class Point:
    """A point of the grid and what `metrics/evaluate.json` would say of it.

    Attributes:
        settings: Section `sample` of this point.
        calls: Calls of the network per image; with guidance two per call of the solver.
        scores: Scores, intervals and protocol.
    """

    settings: SampleSettings
    calls: int
    scores: dict[str, Any]


def run(
    guidance_scale: GuidanceScale = "",
    num_inference_steps: NumInferenceSteps = "",
    solver: Solver = "",
) -> None:
    """Score a trained model at all combinations; what a list leaves out is as in params.yaml.

    Points that were scored before are not drawn again.
    """
    from liquidgen.compute.device import resolve_device

    require_extra("pipeline")
    params = load_params()
    sample = params.sample
    grid = [
        {"guidance_scale": scale, "num_inference_steps": number, "solver": name}
        for scale, number, name in itertools.product(
            _listed("--guidance-scale", guidance_scale, float) or [sample.guidance_scale],
            _listed("--num-inference-steps", num_inference_steps, int)
            or [sample.num_inference_steps],
            _listed("--solver", solver, str) or [sample.solver],
        )
    ]
    settings = [
        validate(SampleSettings, sample.model_dump() | changes, path="sample") for changes in grid
    ]
    folder = Path("work/sweep") / params.run_name
    points = score_points(params, settings, folder, resolve_device(params.machine.device))
    write_table(folder / "sweep.csv", points)
    figures = _draw(folder, points)
    best = min(points, key=lambda point: point.scores["fd_pca"])
    print(
        f"sweep: {len(points)} points, lowest fd_pca with {describe(best.settings)}; look at "
        f"{', '.join(map(str, figures))}"
    )


def score_points(
    params: Params, settings: Sequence[SampleSettings], folder: Path, device: "torch.device"
) -> list[Point]:
    """Draw and score the samples of each point, unless its scores are in the folder.

    Points that differ only in a guidance scale that the model cannot use are one.

    Raises:
        UserError: There is no trained model, or a point cannot be drawn or scored.
    """
    from liquidgen.flow.solvers import scheduler_of, set_timesteps
    from liquidgen.generator.draw import usable_guidance
    from liquidgen.generator.model_folder import load_model
    from liquidgen.stages.evaluate.evaluate import evaluate
    from liquidgen.stages.evaluate.feature_cache import FOLDER
    from liquidgen.stages.sample.sample import write_samples

    if not params.model_folder.is_dir():
        raise UserError(f"{params.model_folder}: no trained model there; run `dvc repro`")
    model, metadata = load_model(params.model_folder)
    inputs = made_from(params, model, metadata)
    grid = {}
    for each in settings:
        guidance_scale = usable_guidance(metadata, each.guidance_scale)
        point = each.model_copy(update={"guidance_scale": guidance_scale})
        grid[sha256(canonical_json(inputs | {"sample": point.model_dump()}))] = point
    points = []
    for number, (key, point) in enumerate(grid.items(), start=1):
        place = folder / "points" / key[:16]
        path = place / "evaluate.json"
        if not path.is_file():
            print(f"sweep: {number} of {len(grid)}: {describe(point)}")
            place.parent.mkdir(parents=True, exist_ok=True)
            with new_folder(place) as temporary:
                write_samples(model, metadata, temporary / "samples", settings=point, device=device)
                scores = evaluate(
                    temporary / "samples",
                    params.raw_folder,
                    params.latents_folder,
                    temporary / "evaluation",
                    settings=params.evaluate,
                    device=device,
                    cache_folder=FOLDER,
                )
                assert scores is not None  # of one process
                scores.write(temporary / "evaluate.json")
                (temporary / "samples" / GRID).rename(temporary / GRID)
                shutil.rmtree(temporary / "samples")  # they can be drawn again
        scheduler = scheduler_of(point.solver)
        set_timesteps(scheduler, point.num_inference_steps, "cpu")
        calls = len(scheduler.timesteps) * (2 if point.guidance_scale > 1 else 1)
        points.append(Point(point, calls, json.loads(path.read_bytes())))
    return points


def made_from(params: Params, model: "LiquidNet", metadata: "SavedModel") -> dict[str, Any]:
    """Return what scores depend on beside the settings of a point.

    Raises:
        UserError: The data of the model are missing or damaged.
    """
    from liquidgen.images.raw_info import read_info
    from liquidgen.latents.manifest import read_manifest
    from liquidgen.stages.evaluate.feature_cache import library_versions

    network = f"{NETWORKS}.{params.evaluate.features}"
    block = f"{BLOCKS}.{model.config['block']}"
    return {
        "weights": metadata.weights.sha256,
        "latents": read_manifest(params.latents_folder).digest,
        "raw": read_info(params.raw_folder).digest,
        "evaluate": params.evaluate.model_dump(),
        "code": fingerprint(*CODE, network, block),
        "libraries": library_versions(),
    }


def describe(settings: SampleSettings) -> str:
    """Return what a grid can vary as words."""
    steps = f"{settings.num_inference_steps} {settings.solver} steps"
    return f"guidance {settings.guidance_scale:g}, {steps}"


def write_table(path: Path, points: Sequence[Point]) -> None:
    """Write one row per point: its settings, and its scores with their intervals."""
    with open(path, "w", newline="", encoding="utf-8") as file:
        table = csv.writer(file, lineterminator="\n")
        columns = [(f"{name}_low", name, f"{name}_high") for name in SCORES]
        header = ["guidance_scale", "num_inference_steps", "solver", "calls"]
        table.writerow([*header, *itertools.chain.from_iterable(columns)])
        for point in points:
            s = point.settings
            row: list[Any] = [s.guidance_scale, s.num_inference_steps, s.solver, point.calls]
            for name in SCORES:
                low, high = point.scores["intervals"].get(name, ("", ""))
                row += [low, point.scores.get(name, ""), high]
            table.writerow(row)


def _listed(option: str, text: str, kind: Callable[[str], Value]) -> list[Value]:
    try:
        return [kind(word.strip()) for word in text.split(",") if word.strip()]
    except ValueError:
        raise UserError(f"{option}: {text!r} is no list of numbers such as 10,25") from None


def _draw(folder: Path, points: Sequence[Point]) -> list[Path]:
    """Draw the scores against guidance and against calls of the network."""
    figures = {
        "guidance.png": (
            "guidance scale",
            lambda point: point.settings.guidance_scale,
            lambda point: f"{point.settings.num_inference_steps} {point.settings.solver} steps",
        ),
        "calls.png": (
            "calls of the network per image",
            lambda point: point.calls,
            lambda point: f"{point.settings.solver}, guidance {point.settings.guidance_scale:g}",
        ),
    }
    for name, (label, x_of, line_of) in figures.items():
        _draw_lines(folder / name, label, points, x_of, line_of)
    return [folder / name for name in figures]


def _draw_lines(
    path: Path,
    label: str,
    points: Sequence[Point],
    x_of: Callable[[Point], float],
    line_of: Callable[[Point], str],
) -> None:
    from matplotlib.figure import Figure

    names = [name for name in ("fd_pca", "kid", "class_accuracy") if name in points[0].scores]
    figure = Figure(figsize=(4.5 * len(names), 4.5), layout="constrained")
    lines: dict[str, list[Point]] = {}
    for point in sorted(points, key=x_of):
        lines.setdefault(line_of(point), []).append(point)
    for name, axes in zip(names, figure.subplots(1, len(names), squeeze=False)[0], strict=True):
        for title, of_line in lines.items():
            values = [point.scores[name] for point in of_line]
            bounds = [point.scores["intervals"][name] for point in of_line]
            reach = [
                [value - low for value, (low, _) in zip(values, bounds, strict=True)],
                [high - value for value, (_, high) in zip(values, bounds, strict=True)],
            ]
            x = [x_of(point) for point in of_line]
            axes.errorbar(x, values, yerr=reach, marker="o", capsize=3, label=title)
        axes.axhline(
            points[0].scores[real_name(name)], color="gray", linestyle="--", label="real images"
        )
        axes.set(xlabel=label, ylabel=name.replace("_", " "))
    figure.legend(
        *axes.get_legend_handles_labels(), loc="outside upper center", ncols=3, frameon=False
    )
    protocol = points[0].scores["protocol"]
    figure.supxlabel(
        f"{protocol['num_compared']} samples against {protocol['num_reference']} held-out images, "
        f"features of {protocol['feature_network']}; bars: 95 %",
        fontsize="small",
    )
    figure.savefig(path)
