"""Settings: frozen models of the sections and blocks of params.yaml, without defaults."""

import math
import re
from difflib import get_close_matches
from typing import Annotated, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from liquidgen.utils.errors import UserError

SIZE_MULTIPLE = 16  # of image_size: downscale 8 times patch size 2
Fraction = Annotated[float, Field(ge=0, lt=1)]
Count = Annotated[int, Field(ge=1)]


def _odd(value: int) -> int:
    if value % 2 == 0:
        raise ValueError("must be odd, so that the output keeps its size")
    return value


def _device(value: str) -> str:
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", value):
        raise ValueError("must be auto, cpu, cuda or cuda:1")
    return value


OddCount = Annotated[int, Field(ge=1), AfterValidator(_odd)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9_]+$")]
Seed = Annotated[int, Field(ge=0, lt=2**32)]  # what torch's generators tell apart
Repo = Annotated[str, Field(pattern=r"^[\w.-]+/[\w.-]+$")]  # owner/name on the hub
Positive = Annotated[float, Field(gt=0)]
Crop = Literal["center", "random", "letterbox"]


class Settings(BaseModel):
    """Base of all settings: frozen, strictly typed, finite, and unknown keys are refused."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", allow_inf_nan=False)


class ProceduralSettings(Settings):
    """Paintings drawn from a seed."""

    kind: Literal["procedural"]
    num_images: Count
    render_size: Annotated[int, Field(ge=16)]
    seed: Seed
    holdout_fraction: Fraction


class FolderSettings(Settings):
    """A folder of images, or one subfolder a class."""

    kind: Literal["folder"]
    path: str
    labels: Literal["folders", "none"]
    max_images: Count | None
    holdout_fraction: Fraction
    license: str


class ParquetSettings(Settings):
    """A folder of Parquet files with an image column and perhaps a label column."""

    kind: Literal["parquet"]
    path: str
    image_column: str
    label_column: str | None
    max_images: Count | None
    holdout_fraction: Fraction
    license: str


class HubSettings(Settings):
    """A dataset of the Hugging Face hub: its Parquet files."""

    kind: Literal["hub"]
    repo: Repo
    revision: Annotated[str, Field(min_length=1)]
    files: Annotated[list[str], Field(min_length=1)]
    image_column: str
    label_column: str | None
    label_names: list[str] | None
    classes: list[str] | None
    max_images: Count | None
    stream_buffer: Count | None
    seed: Seed
    holdout_fraction: Fraction
    license: str


DatasetSettings = ProceduralSettings | FolderSettings | ParquetSettings | HubSettings
DATASET_KINDS: dict[str, type[Settings]] = {
    "procedural": ProceduralSettings,
    "folder": FolderSettings,
    "parquet": ParquetSettings,
    "hub": HubSettings,
}


class Selectors(Settings):
    """One word each, the name of a block."""

    dataset: Name
    image_size: Count
    autoencoder: Name
    model: Name
    block: Name


class AutoencoderSettings(Settings):
    """An autoencoder and its latent convention, latents = (raw - shift) * scale."""

    kind: Literal["dc", "tiny", "kl"]
    path: str | None
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None
    license: str
    precision: Literal["fp32", "bf16", "fp16"]
    channels: Count
    downscale: Count
    scale: Positive
    shift: float


class ModelSettings(Settings):
    """Size of a LiquidNet."""

    width: Count
    depth: Annotated[int, Field(ge=2, multiple_of=2)]
    cond_dim: Count
    patch_size: Count


class DownloadSettings(Settings):
    """Stage download."""

    max_file_mb: Count
    split_seed: Seed


class EncodeSettings(Settings):
    """Stage encode."""

    batch_size: Count
    shard_mb: Count
    crop: Crop
    flip: bool
    max_upscale: Annotated[float, Field(ge=1)]
    max_pixels: Count
    seed: Seed


class TrainSettings(Settings):
    """Stage train."""

    seed: Seed
    num_epochs: Count
    batch_size: Count
    accumulation_steps: Count
    learning_rate: Positive
    warmup_steps: Annotated[int, Field(ge=0)]
    weight_decay: Annotated[float, Field(ge=0)]
    betas: Annotated[list[Fraction], Field(min_length=2, max_length=2)]
    grad_clip: Positive
    ema_decay: Fraction
    label_dropout: Annotated[float, Field(ge=0, le=1)]
    time_sampling: Literal["uniform", "logit_normal"]
    precision: Literal["auto", "fp32", "bf16", "fp16"]
    channels_last: bool
    compile: bool
    gradient_checkpointing: bool
    checkpoint_every: Positive
    log_every: Count
    validate_every: Count
    preview_every: Annotated[int, Field(ge=0)]


class SampleSettings(Settings):
    """Stage sample."""

    num_images: Count
    batch_size: Count
    solver: Literal["euler", "heun", "dpm", "unipc"]
    num_steps: Count
    guidance_scale: Annotated[float, Field(ge=1)]
    seed: Seed
    grid_columns: Count


class EvaluateSettings(Settings):
    """Stage evaluate."""

    batch_size: Count
    neighbors: Count
    kid_subset_size: Annotated[int, Field(ge=2)]
    kid_subsets: Count
    seed: Seed


class MachineSettings(Settings):
    """What depends on the machine and must not retrain."""

    device: Annotated[str, AfterValidator(_device)]
    num_processes: Count
    num_workers: Annotated[int, Field(ge=0)]


class TrackingSettings(Settings):
    """Where runs are recorded."""

    experiment: Annotated[str, Field(min_length=1)]


Model = TypeVar("Model", bound=BaseModel)


def validate(model: type[Model], data: object, path: str = "") -> Model:
    """`data` as an instance of a flat `model`.

    Raises UserError with the full path of the first mistake and, for an unknown key, the nearest
    known one.
    """
    if not isinstance(data, dict):
        raise UserError(f"{path}: must be a section with keys, but it is {data!r}")
    try:
        return model.model_validate(data)
    except ValidationError as error:
        # unknown keys first: a misspelt key is unknown, and the right one missing
        mistakes = sorted(error.errors(), key=lambda e: e["type"] != "extra_forbidden")
        raise UserError(_explain(mistakes[0], model, path)) from None


def _explain(error: dict, model: type[BaseModel], path: str) -> str:
    prefix = f"{path}." if path else ""
    name = str(error["loc"][0])
    if error["type"] == "extra_forbidden":
        near = get_close_matches(name, model.model_fields, n=1)
        hint = f"did you mean {prefix}{near[0]}?" if near else "remove it"
        return f"{prefix}{name}: unknown key; {hint}"
    if error["type"] == "missing":
        return f"{prefix}{name}: missing key; add it"
    message = error["msg"].removeprefix("Value error, ")
    return f"{prefix}{name}: {message[0].lower()}{message[1:]}; it is {error['input']!r}"


def check_image_size(image_size: int, downscale: int) -> None:
    """Raises UserError for a size in px that does not fit an autoencoder, with the nearest fits."""
    multiple = math.lcm(SIZE_MULTIPLE, downscale)
    if image_size % multiple or image_size == 0:
        below = image_size // multiple * multiple
        near = " or ".join(str(size) for size in (below, below + multiple) if size)
        raise UserError(f"image_size: {image_size} is not a multiple of {multiple}; use {near}")
