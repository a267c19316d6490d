"""Settings: frozen models of the sections and blocks of params.yaml, without defaults."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Fraction = Annotated[float, Field(ge=0, lt=1)]
Count = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]


class Settings(BaseModel):
    """Base of all settings: frozen, strict, and unknown keys are refused."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")


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


DatasetSettings = Annotated[
    ProceduralSettings | FolderSettings | ParquetSettings, Field(discriminator="kind")
]


class AutoencoderSettings(Settings):
    """An autoencoder and its latent convention, latents = (raw - shift) * scale."""

    kind: Literal["dc", "tiny", "kl"]
    path: str | None
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
    crop: Literal["center", "random"]
    flip: bool
    max_upscale: Annotated[float, Field(ge=1)]
    max_pixels: Count
    seed: Seed


class TrainSettings(Settings):
    """Stage train."""

    seed: Seed
    num_epochs: Count
    batch_size: Count
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
    solver: str
    num_steps: Count
    guidance_scale: Annotated[float, Field(ge=1)]
    seed: Seed
    grid_columns: Count


class EvaluateSettings(Settings):
    """Stage evaluate."""

    batch_size: Count
    neighbours: Count
    kid_subset_size: Count
    kid_subsets: Count
    seed: Seed


class MachineSettings(Settings):
    """What depends on the machine and must not retrain."""

    device: Annotated[str, Field(pattern=r"^(auto|cpu|cuda(:\d+)?)$")]
    num_workers: Annotated[int, Field(ge=0)]


class TrackingSettings(Settings):
    """Where runs are recorded."""

    experiment: Annotated[str, Field(min_length=1)]
