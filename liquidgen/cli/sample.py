"""Draw images from a trained model into PNG files, without the pipeline."""

import argparse
import re
from pathlib import Path
from typing import TYPE_CHECKING

from liquidgen.utils.errors import UserError

if TYPE_CHECKING:
    from liquidgen.pipeline.pipeline import LiquidGenPipeline

HELP = "draw images from a trained model"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Describe the options; what is not given is left to the pipeline."""
    add = parser.add_argument
    add("--model", help="a model's folder or a repository of the hub; default: as params.yaml says")
    names = {"dest": "classes", "nargs": "+", "action": "extend", "metavar": "CLASS"}
    add("--class", **names, help="names or ids; default: all")
    add("--count", type=int, help="number of images, spread over the classes; default: one a class")
    add("--seed", type=int, default=0, help="image i is drawn from (seed, i); default: 0")
    add("--guidance", type=float, help="guidance scale; 1 is off")
    add("--steps", type=int, help="steps of the solver")
    add("--solver", help="euler, heun, dpm or unipc")
    add("--device", default="auto", help="auto, cpu, cuda or cuda:1")
    add("--out", type=Path, default=Path("samples"), help="folder of the images; default: samples")


def run(options: argparse.Namespace) -> int:
    """Draw and write; no file that is there is replaced.

    Raises UserError for a model that is not there, classes it does not know, and files in the way.
    """
    from liquidgen.compute.device import resolve_device
    from liquidgen.pipeline.pipeline import LiquidGenPipeline

    pipe = LiquidGenPipeline.from_pretrained(options.model or _default_model())
    pipe.to(resolve_device(options.device))
    given = {
        "guidance_scale": options.guidance,
        "num_steps": options.steps,
        "solver": options.solver,
    }
    given = {name: value for name, value in given.items() if value is not None}
    classes = options.classes and [_class(pipe, name) for name in options.classes]
    asked = pipe.request(classes, options.count)
    paths = [options.out / _file_name(pipe, number, label) for number, label in enumerate(asked)]
    for path in paths:
        if path.exists():
            raise UserError(f"{path}: is there already; name another folder by --out")
    images = pipe(classes, options.count, seed=options.seed, **given).images
    options.out.mkdir(parents=True, exist_ok=True)
    for path, image in zip(paths, images, strict=True):
        image.save(path)
    print(f"sample: {len(images)} images in {options.out}")
    return 0


def _default_model() -> Path:
    from liquidgen.api import TrainConfig

    folder = TrainConfig().params().model_folder
    if not folder.is_dir():
        remedy = "`dvc repro` trains it, or name another one by --model"
        raise UserError(f"{folder}: no trained model there; {remedy}")
    return folder


def _class(pipe: "LiquidGenPipeline", name: str) -> str | int:
    named = name in (pipe.classes or ())
    return int(name) if name.isdecimal() and not named else name


def _file_name(pipe: "LiquidGenPipeline", number: int, label: int) -> str:
    name = re.sub(r"\W+", "_", pipe.classes[label]) if pipe.classes else "image"
    return f"{number:04d}-{name}.png"
