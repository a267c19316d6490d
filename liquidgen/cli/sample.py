"""`liquidgen sample`: draw images from a trained model into PNG files."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from typer import CallbackParam, Option

from liquidgen.utils.errors import UserError

if TYPE_CHECKING:
    from liquidgen.pipeline.labels import Label
    from liquidgen.pipeline.pipeline import LiquidGenPipeline

NAME_LENGTH = 50  # characters of a class in a file's name: up to 200 of the 255 bytes


def _renamed(value: object, parameter: CallbackParam) -> None:
    """Refuse an option of earlier versions by its new name."""
    if value is not None:
        raise UserError(f"{parameter.opts[0]}: was renamed to {RENAMED[parameter.opts[0]]}")


# options of earlier versions, and the words of diffusers
RENAMED = {
    "--class": "--class-labels",
    "--count": "--num-images",
    "--guidance": "--guidance-scale",
    "--steps": "--num-inference-steps",
}

Model = Annotated[
    str | None,
    Option(help="Folder of a model, or its repository on the hub; default: as params.yaml says."),
]
ClassLabels = Annotated[
    list[str] | None,
    Option(
        metavar="CLASS",
        help="Name or id, or NAME=WEIGHT,NAME=WEIGHT to mix; may be repeated; default: all.",
    ),
]
NumImages = Annotated[
    int | None,
    Option(help="Number of images, spread over the classes; default: one per class."),
]
Seed = Annotated[int, Option(help="Image i is drawn from (seed, i).")]
GuidanceScale = Annotated[float | None, Option(help="1 is off; default: 1.5 (1 without classes).")]
NumInferenceSteps = Annotated[
    int | None, Option(help="Steps of the solver; default: 20 (50 of euler).")
]
Solver = Annotated[str | None, Option(help="euler, heun, dpm or unipc; default: dpm.")]
Device = Annotated[str, Option(help="auto, cpu, cuda or cuda:1.")]
Out = Annotated[Path, Option(help="Folder of the images; existing files are not replaced.")]


def _earlier(name: str) -> Any:
    return Option(name, hidden=True, callback=_renamed)


def run(
    model: Model = None,
    class_labels: ClassLabels = None,
    num_images: NumImages = None,
    seed: Seed = 0,
    guidance_scale: GuidanceScale = None,
    num_inference_steps: NumInferenceSteps = None,
    solver: Solver = None,
    device: Device = "auto",
    out: Out = Path("samples"),
    _class: Annotated[str | None, _earlier("--class")] = None,
    _count: Annotated[str | None, _earlier("--count")] = None,
    _guidance: Annotated[str | None, _earlier("--guidance")] = None,
    _steps: Annotated[str | None, _earlier("--steps")] = None,
) -> None:
    """Draw images from a trained model."""
    # torch takes seconds to import, and `liquidgen --help` needs none of it
    from liquidgen.compute.device import resolve_device
    from liquidgen.flow.solvers import scheduler_of
    from liquidgen.pipeline.labels import read_class
    from liquidgen.pipeline.pipeline import LiquidGenPipeline

    pipe = LiquidGenPipeline.from_pretrained(model or default_model())
    pipe.to(resolve_device(device))
    if solver is not None:
        pipe.scheduler = scheduler_of(solver)
    # refuse before drawing what could not be written afterwards
    asked = [read_class(text, pipe.classes) for text in class_labels] if class_labels else None
    labels = pipe.image_labels(asked, num_images)
    paths = [out / _file_name(pipe, number, label) for number, label in enumerate(labels)]
    for path in paths:
        if path.exists():
            raise UserError(f"{path}: already exists; name another folder by --out")
    # the pipeline has its own defaults
    options: dict[str, Any] = {
        "class_labels": asked,
        "num_images": num_images,
        "guidance_scale": guidance_scale,
        "num_inference_steps": num_inference_steps,
    }
    given = {name: value for name, value in options.items() if value is not None}
    images, *_ = pipe(seed=seed, return_dict=False, **given)
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


def _file_name(pipe: "LiquidGenPipeline", number: int, label: "Label") -> str:
    from liquidgen.pipeline.labels import label_name

    name = re.sub(r"\W+", "_", label_name(label, pipe.classes)) or "image"
    return f"{number:04d}-{name[:NAME_LENGTH]}.png"
