"""`liquidgen sample`: draw images from a trained model into PNG files."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from typer import Option

from liquidgen.utils.errors import UserError

if TYPE_CHECKING:
    from liquidgen.pipeline.pipeline import LiquidGenPipeline

NAME_LENGTH = 50  # characters of a class in a file's name: up to 200 of the 255 bytes

Model = Annotated[
    str | None,
    Option(help="Folder of a model, or its repository on the hub; default: as params.yaml says."),
]
Classes = Annotated[
    list[str] | None,
    Option("--class", metavar="CLASS", help="Name or id; may be repeated; default: all classes."),
]
Count = Annotated[
    int | None,
    Option(help="Number of images, spread over the classes; default: one per class."),
]
Seed = Annotated[int, Option(help="Image i is drawn from (seed, i).")]
Guidance = Annotated[
    float | None, Option(help="Guidance scale; 1 is off; default: 1.5 (1 without classes).")
]
Steps = Annotated[int | None, Option(help="Steps of the solver; default: 50.")]
Solver = Annotated[str | None, Option(help="euler, heun, dpm or unipc; default: euler.")]
Device = Annotated[str, Option(help="auto, cpu, cuda or cuda:1.")]
Out = Annotated[Path, Option(help="Folder of the images; existing files are not replaced.")]


def run(
    model: Model = None,
    classes: Classes = None,
    count: Count = None,
    seed: Seed = 0,
    guidance: Guidance = None,
    steps: Steps = None,
    solver: Solver = None,
    device: Device = "auto",
    out: Out = Path("samples"),
) -> None:
    """Draw images from a trained model."""
    # torch takes seconds to import, and `liquidgen --help` needs none of it
    from liquidgen.compute.device import resolve_device
    from liquidgen.pipeline.pipeline import LiquidGenPipeline

    pipe = LiquidGenPipeline.from_pretrained(model or default_model())
    pipe.to(resolve_device(device))
    # refuse before drawing what could not be written afterwards
    labels = pipe.image_labels(classes, count)
    paths = [out / _file_name(pipe, number, label) for number, label in enumerate(labels)]
    for path in paths:
        if path.exists():
            raise UserError(f"{path}: already exists; name another folder by --out")
    # the pipeline has its own defaults
    options: dict[str, Any] = {"guidance_scale": guidance, "num_steps": steps, "solver": solver}
    given = {name: value for name, value in options.items() if value is not None}
    images = pipe(classes, count, seed=seed, **given).images
    out.mkdir(parents=True, exist_ok=True)
    for path, image in zip(paths, images, strict=True):
        image.save(path)
    print(f"sample: {len(images)} images in {out}")


def default_model() -> Path:
    """Return the folder of the model that params.yaml names.

    Raises:
        UserError: It was not trained yet.
    """
    from liquidgen.api import TrainConfig

    folder = TrainConfig().params().model_folder
    if not folder.is_dir():
        remedy = "`dvc repro` in the checkout trains it, or name another one by --model"
        raise UserError(f"{folder.absolute()}: no trained model there; {remedy}")
    return folder


def _file_name(pipe: "LiquidGenPipeline", number: int, label: int) -> str:
    name = re.sub(r"\W+", "_", pipe.classes[label]) if pipe.classes else "image"
    return f"{number:04d}-{name[:NAME_LENGTH]}.png"
