"""Settings: frozen models of the sections and blocks of params.yaml, without defaults."""

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar, get_args, get_origin

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    ValidationError,
    ValidationInfo,
    field_validator,
)

from liquidgen.features import FEATURE_NETWORKS
from liquidgen.flow.schedulers import SOLVERS
from liquidgen.flow.time_sampling import TIME_SAMPLINGS
from liquidgen.utils.errors import UserError
from liquidgen.utils.image_size import ImageSize, sides
from liquidgen.utils.text import LONGEST, short_repr

SIZE_MULTIPLE = 16  # of image_size: downscale 8 times patch size 2
WIDTH_MULTIPLE = 16  # of a width: the groups of GroupNorm


def _odd(value: int) -> int:
    if value % 2 == 0:
        raise ValueError("must be odd, so that the output keeps its size")
    return value


def _distinct(names: list[str]) -> list[str]:
    name, count = Counter(names).most_common(1)[0]
    if count > 1:
        raise ValueError(f"names {name!r} twice")
    return names


def _distinct_spellings(names: list[str]) -> list[str]:
    _distinct([spelling for name in names for spelling in name.split("|")])
    return names


def _name(value: object) -> object:
    if not isinstance(value, str) or not re.fullmatch(r"[A-Za-z0-9_]{1,48}", value):
        raise ValueError(
            "must be a name of at most 48 letters, digits and _, in quotes if it is a number"
        )
    return value


def _ray_address(value: str) -> str:
    if not re.fullmatch(r"auto|.+:\d{1,5}", value):
        raise ValueError("must be auto, or host:port of a cluster of Ray")
    return value


def _device(value: str) -> str:
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", value):
        raise ValueError("must be auto, cpu, cuda or cuda:1")
    return value


def _in(registry: Mapping[str, object]) -> BeforeValidator:
    """Validator of the name of an entry; entries may be added to the registry at any time."""

    def check(value: object) -> object:
        if not isinstance(value, str) or value not in registry:
            raise ValueError(f"must be one of {', '.join(registry)}")
        return value

    return BeforeValidator(check)


def _list(value: object) -> object:
    if not isinstance(value, int | list | tuple):
        raise ValueError("must be a number, or a list with one number per level")
    return [value] if isinstance(value, int) else list(value)


def _number_of_one(values: list[int]) -> int | list[int]:
    return values[0] if len(values) == 1 else values


# A list that may be written as a number: networks of one level were saved with numbers, and their
# trainings and folders are found by what the settings dump.
_PER_LEVEL = (Field(min_length=1), BeforeValidator(_list), PlainSerializer(_number_of_one))
Fraction = Annotated[float, Field(ge=0, lt=1)]
Count = Annotated[int, Field(ge=1)]
OddCount = Annotated[int, Field(ge=1), AfterValidator(_odd)]
Positive = Annotated[float, Field(gt=0)]
Optimizer = Literal["adamw", "muon"]
NetworkPrecision = Literal["auto", "fp32", "bf16", "fp16"]
Seed = Annotated[int, Field(ge=0, lt=2**32)]  # torch's generators ignore further bits
Name = Annotated[str, BeforeValidator(_name)]
Names = Annotated[list[str], Field(min_length=1), AfterValidator(_distinct)]
Classes = Annotated[list[str], Field(min_length=1), AfterValidator(_distinct_spellings)]
Repo = Annotated[str, Field(pattern=r"^[\w.-]+/[\w.-]+$")]  # owner/name on the hub
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
    license: str


class FolderSettings(Settings):
    """A folder of images, or one subfolder per class."""

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
    classes: Classes | None
    max_images: Count | None
    holdout_fraction: Fraction
    license: str


class HubSettings(Settings):
    """Parquet files of a dataset on the Hugging Face Hub."""

    kind: Literal["hub"]
    repo: Repo
    revision: Annotated[str, Field(min_length=1)]
    files: Annotated[list[str], Field(min_length=1)]
    image_column: str
    label_column: str | None
    label_names: Names | None
    classes: Classes | None
    max_images: Count | None
    stream_buffer: Count | None
    seed: Seed
    holdout_fraction: Fraction
    license: str


# A new kind of dataset is a class above and its name here.
DatasetSettings = Annotated[
    ProceduralSettings | FolderSettings | ParquetSettings | HubSettings,
    Field(discriminator="kind"),
]
DATASET_KINDS: dict[str, type[Settings]] = {
    get_args(member.model_fields["kind"].annotation)[0]: member
    for member in get_args(get_args(DatasetSettings)[0])
}


class AutoencoderSettings(Settings):
    """An autoencoder and its latent convention: latents = (raw - shift) * scale."""

    kind: Literal["dc", "tiny", "kl"]  # of `KINDS` in liquidgen/latents/weights.py
    path: str | None
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None
    license: str
    precision: Literal["fp32", "bf16", "fp16"]
    channels: Count
    downscale: Count
    scale: Positive
    shift: float


class LevelSettings(Settings):
    """Levels of a LiquidNet: width and depth of each, stored as numbers if there is one level."""

    width: Annotated[list[Annotated[int, Field(ge=1, multiple_of=WIDTH_MULTIPLE)]], *_PER_LEVEL]
    depth: Annotated[list[Annotated[int, Field(ge=2, multiple_of=2)]], *_PER_LEVEL]

    @field_validator("depth")
    @classmethod
    def _as_many_as_widths(cls, depth: list[int], info: ValidationInfo) -> list[int]:
        widths = info.data.get("width", depth)  # a wrong width has its own message
        if len(widths) != len(depth):
            raise ValueError(f"must have as many numbers as width, {len(widths)}: one per level")
        return depth


class ModelSettings(LevelSettings):
    """Size of a LiquidNet."""

    cond_dim: Count
    patch_size: Count


class ModelPreset(ModelSettings):
    """A block of `models`: the size of a LiquidNet, and start values for its training."""

    optimizer: Optimizer
    learning_rate: Positive
    ema_decay: Fraction
    batch_size: Count


# settings of stage train that a block of `models` brings
PRESET_TRAINING = ModelPreset.model_fields.keys() - ModelSettings.model_fields.keys()


class DownloadSettings(Settings):
    """Stage download."""

    max_file_mb: Count
    max_image_mb: Annotated[int, Field(ge=1, le=2000)]  # Arrow's arrays hold 2 GiB
    split_seed: Seed


class EncodeSettings(Settings):
    """Stage encode."""

    batch_size: Count
    shard_mb: Count
    crop: Crop
    flip: bool
    augmented_variants: Annotated[int, Field(ge=0)]
    max_upscale: Annotated[float, Field(ge=1)]
    max_pixels: Count
    stretch_to_maximum: bool
    seed: Seed


class TrainSection(Settings):
    """Stage train, as params.yaml has it: null takes the setting of the model's block."""

    seed: Seed
    init_from: str | None
    num_epochs: Count
    batch_size: Count | None
    accumulation_steps: Count
    optimizer: Optimizer | None
    learning_rate: Positive | None
    warmup_steps: Annotated[int, Field(ge=0)]
    learning_rate_decay: Literal["none", "linear", "cosine"]
    decay_fraction: Annotated[float, Field(gt=0, le=1)]
    weight_decay: Annotated[float, Field(ge=0)]
    betas: Annotated[list[Fraction], Field(min_length=2, max_length=2)]
    grad_clip: Positive
    ema_decay: Fraction | None
    label_dropout: Annotated[float, Field(ge=0, le=1)]
    time_sampling: Annotated[str, _in(TIME_SAMPLINGS)]
    precision: NetworkPrecision
    channels_last: bool
    compile: bool
    gradient_checkpointing: bool
    checkpoint_every: Positive
    log_every: Count
    validate_every: Count
    preview_every: Annotated[int, Field(ge=0)]


class TrainSettings(TrainSection):
    """Stage train."""

    batch_size: Count
    optimizer: Optimizer
    learning_rate: Positive
    ema_decay: Fraction

    @classmethod
    def resolve(cls, section: TrainSection, preset: ModelPreset) -> Self:
        """Return the settings of a section, with those of the model's block in place of null."""
        start_values = preset.model_dump(include=PRESET_TRAINING)
        null = {key for key in PRESET_TRAINING if getattr(section, key) is None}
        return cls(**start_values | section.model_dump(exclude=null))


class SampleSettings(Settings):
    """Stage sample."""

    num_images: Count
    batch_size: Count
    solver: Annotated[str, _in(SOLVERS)]
    num_inference_steps: Count
    guidance_scale: Annotated[float, Field(ge=1)]
    precision: NetworkPrecision
    seed: Seed
    grid_columns: Count


class EvaluateSettings(Settings):
    """Stage evaluate."""

    features: Annotated[str, _in(FEATURE_NETWORKS)]
    batch_size: Count
    nearest_k: Count
    kid_subset_size: Annotated[int, Field(ge=2)]
    kid_subsets: Count
    seed: Seed


class MachineSettings(Settings):
    """Settings that depend on the machine; a change of them must not retrain."""

    engine: Literal["local", "ray"]
    ray_address: Annotated[str, AfterValidator(_ray_address)]
    device: Annotated[str, AfterValidator(_device)]
    num_processes: Annotated[int, Field(ge=1, le=1024)]
    num_workers: Annotated[int, Field(ge=0, le=1024)]


class TrackingSettings(Settings):
    """Where runs are recorded."""

    experiment: Annotated[str, Field(min_length=1)]


class Descriptions(Settings):
    """One line per block, for `liquidgen presets`; a block may have none."""

    datasets: dict[str, str]
    autoencoders: dict[str, str]
    models: dict[str, str]
    blocks: dict[str, str]


# ---- the whole file: every name of a section or selector is written here, and only here ----------


class Selectors(Settings):
    """The image size, and the names of the selected blocks."""

    dataset: Name
    image_size: ImageSize
    autoencoder: Name
    model: Name
    block: Name


class BlockGroups(Settings):
    """Named blocks that the selectors choose from: group `models` for the selector `model`."""

    descriptions: Descriptions  # no stage depends on them
    datasets: dict[str, DatasetSettings]
    autoencoders: dict[str, AutoencoderSettings]
    models: dict[str, ModelPreset]
    blocks: dict[str, dict[Any, Any]]  # `models.blocks.<name>.Settings` validates its own block


class StageSections(Settings):
    """One section per stage of dvc.yaml, in the order of the stages."""

    download: DownloadSettings
    encode: EncodeSettings
    train: TrainSection
    sample: SampleSettings
    evaluate: EvaluateSettings


class UntrackedSections(Settings):
    """Sections that no stage depends on: a change of them reruns nothing."""

    machine: MachineSettings
    tracking: TrackingSettings


class ParamsFile(Selectors, BlockGroups, StageSections, UntrackedSections):
    """params.yaml."""


# ---- validation with messages of one line -------------------------------------------------------

Model = TypeVar("Model", bound=BaseModel)
UNKNOWN = ("extra_forbidden", "invalid_key")  # pydantic's types of errors
NO_MAPPING = ("model_type", "model_attributes_type", "dict_type")


def validate(model: type[Model], data: object, path: str = "", file: Path | None = None) -> Model:
    """Validate data that users have written.

    Args:
        model: The model that the data should fit.
        data: Content of a section, of a block, or of the whole file.
        path: Full key of the data, such as `blocks.liquid`; empty for the whole file.
        file: The file, for messages about its own keys.

    Raises:
        UserError: The full key of the first mistake, and the nearest known key for an unknown one.
    """
    try:
        return model.model_validate(data)
    except ValidationError as error:
        # unknown keys first: a misspelt key is unknown, and the right one missing
        mistakes = sorted(error.errors(), key=lambda mistake: mistake["type"] not in UNKNOWN)
        raise UserError(_explain(mistakes[0], model, path, file)) from None


def nearest(name: str, known: Iterable[str], prefix: str = "") -> str:
    """Remedy for an unknown key: the known one that is nearest, or has its initials."""
    keys = [str(key) for key in known]
    near = [key for key in keys if name == "".join(part[:1] for part in key.split("_"))]
    near = near or get_close_matches(name[:LONGEST], keys, n=1)
    return f"did you mean {prefix}{near[0]}?" if near else "remove it"


def _explain(error: Mapping[str, Any], model: type[BaseModel], path: str, file: Path | None) -> str:
    """One line for one of pydantic's errors."""
    kind = error["type"]
    value = error["input"]
    if error["loc"][-1:] == ("[key]",):  # YAML reads 2024 as a number
        key = ".".join([*map(str, error["loc"][:-2]), str(value)])
        return f"{key}: a block's name must be text; put it in quotes or rename it"
    keys, siblings = _walk(error["loc"], model)
    if kind == "invalid_key":  # pydantic's location shows `true` as 1
        keys[-1] = str(value)
    if path:
        keys.insert(0, path)
    key = ".".join(keys)
    where = f" in {file}" if file and len(keys) == 1 else ""
    kinds = ", ".join(DATASET_KINDS)
    if kind in UNKNOWN:
        prefix = "".join(f"{part}." for part in keys[:-1])
        return f"{key}: unknown key{where}; {nearest(keys[-1], siblings, prefix)}"
    if kind == "missing":
        return f"{key}: missing key{where}; add it"
    if kind == "union_tag_not_found":  # without `kind`, no other key can be judged
        misspelt = get_close_matches("kind", map(str, value), n=1)
        if misspelt:
            return f"{key}.{misspelt[0]}: unknown key; did you mean {key}.kind?"
        return f"{key}.kind: missing key; add it, one of {kinds}"
    if kind == "union_tag_invalid":
        return f"{key}.kind: must be one of {kinds}; it is {short_repr(value['kind'])}"
    if kind == "dict_type" and len(keys) == 1:
        return f"{key}: must be a mapping of named blocks, but it is {short_repr(value)}"
    if kind in NO_MAPPING:
        shape = "section" if len(keys) == 1 else "block"
        return f"{key}: must be a {shape} with keys, but it is {short_repr(value)}"
    rule = error["msg"].removeprefix("Value error, ")
    return f"{key}: {rule[0].lower()}{rule[1:]}; it is {short_repr(value)}"


def _walk(loc: tuple[int | str, ...], model: type[BaseModel]) -> tuple[list[str], list[str]]:
    """Follow an error's location from the model down.

    Returns:
        The keys on the way, as the file has them, and the known keys beside the last one.
    """
    keys: list[str] = []
    siblings: list[str] = []
    kind: Any = model
    for part in loc:
        if get_origin(kind) is Annotated:  # pydantic names the member of a union: no key
            kind = DATASET_KINDS[str(part)]
            continue
        if get_origin(kind) is dict:
            kind = get_args(kind)[1]
        elif isinstance(kind, type) and issubclass(kind, BaseModel):
            siblings = list(kind.model_fields)
            kind = kind.model_fields[str(part)].annotation if part in siblings else None
        else:
            break  # inside a value, such as one of several numbers
        keys.append(str(part))
    return keys, siblings


def check_image_size(image_size: int | str, downscale: int) -> None:
    """Check that an autoencoder can encode images of this size.

    Args:
        image_size: Size of the images, px; see `sides`.
        downscale: Pixels per latent, along one side.

    Raises:
        UserError: It cannot; with the nearest sizes that fit.
    """
    multiple = math.lcm(SIZE_MULTIPLE, downscale)
    for side in sides(image_size):
        if side % multiple or side == 0:
            below = side // multiple * multiple
            near = " or ".join(str(size) for size in (below, below + multiple) if size)
            whole = "" if side == image_size else f"{image_size}: "
            raise UserError(
                f"image_size: {whole}{side} is not a multiple of {multiple}; use {near}"
                f"{' for it' if whole else ''}"
            )
