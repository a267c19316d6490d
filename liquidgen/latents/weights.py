"""Locates, checks and loads the weights of autoencoders."""

import json
import logging
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from liquidgen.config.paths import own_path
from liquidgen.config.settings import AutoencoderSettings
from liquidgen.hub.download import cached, download, look_up
from liquidgen.hub.repository import SCHEME, parse_address
from liquidgen.utils.errors import UserError, reason_of
from liquidgen.utils.files import file_sha256
from liquidgen.utils.text import listed

if TYPE_CHECKING:
    import torch
    from diffusers import ModelMixin

log = logging.getLogger(__name__)
SHIPPED = Path(__file__).parent / "builtin"
CONFIG = "config.json"
WEIGHTS = "diffusion_pytorch_model.safetensors"
DOWNLOAD = "download it again (`hf cache rm` removes a copy in the hub's cache)"
COUNTS = re.compile("layers|blocks")  # in names of keys of config.json that count parts


@dataclass(frozen=True)
class Kind:
    """A class of autoencoders.

    Attributes:
        class_name: Its name in diffusers, and in config.json.
        stages: Key in config.json of the widths of the encoder's stages; each stage but the first
            halves the side.
        latents_of: Function from the output of `encode` to raw latents.
    """

    class_name: str
    stages: str
    latents_of: Callable[[Any], "torch.Tensor"]


KINDS = {
    "dc": Kind("AutoencoderDC", "encoder_block_out_channels", lambda output: output.latent),
    "tiny": Kind("AutoencoderTiny", "block_out_channels", lambda output: output.latents),
    "kl": Kind("AutoencoderKL", "block_out_channels", lambda output: output.latent_dist.mode()),
}


class _Damaged(UserError):
    """A file that another download may repair."""


def weights_digest(settings: AutoencoderSettings) -> str:
    """Return the SHA-256 digest of an autoencoder's weights file, without loading it.

    Raises:
        UserError: The files are not those of the settings, or the hub does not give them.
    """
    return checked_folder(settings)[1]


def checked_folder(settings: AutoencoderSettings) -> tuple[Path, str]:
    """Find an autoencoder's folder, and check that it is the one of the settings.

    Returns:
        The folder, and the SHA-256 digest of its weights file.

    Raises:
        UserError: The files are not those of the settings, or the hub does not give them.
    """
    if settings.path is None:
        return _checked(SHIPPED, settings)
    if not settings.path.startswith(SCHEME):
        return _checked(own_path(settings.path), settings)
    repo, inside = parse_address(settings.path)
    names = [f"{inside}/{name}".lstrip("/") for name in (CONFIG, WEIGHTS)]
    # first the copy in the cache, without a request: stages need it again and again
    folder = cached(repo, repo.revision, names)
    if folder is not None:
        try:
            return _checked(folder / inside, settings)
        except _Damaged:
            log.warning(
                "%s: the cached copy is a different file or damaged; downloading it again", repo
            )
    listing = look_up(repo)
    if missing := [name for name in names if name not in listing.files]:
        if f"{inside}/vae/{CONFIG}".lstrip("/") in listing.files:
            raise UserError(_whole_pipeline(str(repo), settings))
        known = listed(sorted(listing.files), quotes=False)
        raise UserError(
            f"{repo}: no file {missing[0]!r}; there are: {known}; correct `path` of the block"
        )
    folder = download(repo, listing.commit, names, force=folder is not None)
    return _checked(folder / inside, settings)


def _checked(folder: Path, settings: AutoencoderSettings) -> tuple[Path, str]:
    check_autoencoder_folder(folder, settings)
    digest = file_sha256(folder / WEIGHTS)
    if settings.sha256 is not None and digest != settings.sha256:
        raise _Damaged(
            f"{settings.path}: weights have sha256 {digest[:12]}, but the block's sha256 is "
            f"{settings.sha256[:12]}: it is a different file or damaged; download it again, or "
            "correct the block"
        )
    return folder, digest


def check_autoencoder_folder(folder: Path, settings: AutoencoderSettings) -> None:
    """Check an autoencoder's folder and its config.json against the settings.

    Raises:
        UserError: A file is missing, or it is another autoencoder.
    """
    if not folder.is_dir():
        raise UserError(f"autoencoder path '{folder}': no such folder; correct the path")
    for name in (CONFIG, WEIGHTS):
        if not (folder / name).is_file():
            if (folder / "vae" / CONFIG).is_file():
                raise UserError(_whole_pipeline(f"autoencoder path '{folder}'", settings))
            raise UserError(f"autoencoder path '{folder}': has no {name}; need diffusers' layout")
    kind = KINDS[settings.kind]
    config = _read_config(folder / CONFIG)
    if (found := config.get("_class_name")) != kind.class_name:
        known = [name for name, other in KINDS.items() if other.class_name == found]
        remedy = f"set kind to '{known[0]}'" if known else f"known kinds: {', '.join(KINDS)}"
        raise UserError(
            f"autoencoder path '{folder}': holds {found}, but kind '{settings.kind}' is"
            f" {kind.class_name}; {remedy}"
        )
    stages = config.get(kind.stages)
    downscale = 2 ** (len(stages) - 1) if isinstance(stages, list) and stages else None
    for key, true in (("channels", config.get("latent_channels")), ("downscale", downscale)):
        if (value := getattr(settings, key)) != true:
            raise UserError(f"autoencoder {key}: {value}, but '{folder}' has {true}; set {true}")
    # AutoencoderKL upcasts by default
    if settings.precision == "fp16" and config.get("force_upcast", settings.kind == "kl"):
        raise UserError(
            f"autoencoder precision: fp16, but '{folder}' overflows in it (its {CONFIG} has "
            "force_upcast); set bf16 or fp32"
        )


def _whole_pipeline(where: str, settings: AutoencoderSettings) -> str:
    return (
        f"{where}: holds a whole pipeline; set `path` of the block to its autoencoder, "
        f"{(settings.path or '').rstrip('/')}/vae"
    )


def _read_config(path: Path) -> dict:
    try:
        config = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise _Damaged(f"{path}: not valid JSON ({error}); download it again") from None
    if not isinstance(config, dict):
        raise _Damaged(f"{path}: no mapping of keys; download it again")
    return config


def weight_shapes(path: Path, remedy: str) -> dict[str, list[int]]:
    """Read the names and shapes of the tensors in a safetensors file.

    Args:
        path: The file.
        remedy: What to do about a damaged file, for the message.

    Raises:
        UserError: It is none.
    """
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise UserError(f"{path}: missing; {remedy}")
    try:
        with safe_open(path, framework="np") as file:
            return {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise UserError(f"{path}: unreadable ({reason_of(error)}); {remedy}") from None


def check_size(folder: Path, class_name: str) -> None:
    """Check that an autoencoder's config.json asks for no more weights than its file has.

    A forged one would else ask for any amount of memory before anything is compared.

    Raises:
        UserError: It does, or a file is unreadable.
    """
    import diffusers
    import torch

    shapes = weight_shapes(folder / WEIGHTS, DOWNLOAD)
    config = _read_config(folder / CONFIG)
    counts = [config[key] for key in config if COUNTS.search(key)]
    numbers = [n for one in counts for n in (one if isinstance(one, list) else [one])]
    if any(isinstance(number, int) and number > len(shapes) for number in numbers):
        raise UserError(
            f"{folder / CONFIG}: asks for {max(numbers)} layers, but the weights are "
            f"{len(shapes)} tensors; download both again"
        )
    try:
        with torch.device("meta"):  # no memory
            asked = getattr(diffusers, class_name).from_config(config).num_parameters()
    except Exception as error:  # diffusers raises anything for values that do not fit
        raise UserError(f"{folder / CONFIG}: unusable ({reason_of(error)}); {DOWNLOAD}") from None
    held = sum(math.prod(shape) for shape in shapes.values())
    if asked > 2 * held:  # the names of older files differ, so their sum is compared
        raise UserError(
            f"{folder / CONFIG}: asks for {asked} weights, but the file has {held}; download both "
            "again"
        )


def read_weights(folder: Path, class_name: str) -> "ModelMixin":
    """Load the network of a folder in fp32.

    Args:
        folder: A folder in diffusers' layout.
        class_name: Class of the network in diffusers.

    Returns:
        The network, on the CPU.

    Raises:
        UserError: The files cannot be read, or lack weights.
    """
    import diffusers  # takes seconds: only once the folder is known to be right
    import torch
    from diffusers.utils.logging import set_verbosity_error
    from safetensors import SafetensorError

    set_verbosity_error()  # TAEF1's config.json has a harmless key that it warns of
    check_size(folder, class_name)
    try:
        model, info = getattr(diffusers, class_name).from_pretrained(
            folder,
            torch_dtype=torch.float32,
            use_safetensors=True,
            low_cpu_mem_usage=False,
            output_loading_info=True,
        )
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        reason = reason_of(error, lines=1)
        raise UserError(f"{folder / WEIGHTS}: unreadable ({reason}); {DOWNLOAD}") from None
    if info["missing_keys"]:
        raise UserError(
            f"{folder / WEIGHTS}: lacks {len(info['missing_keys'])} weights that config.json asks"
            f" for, such as {info['missing_keys'][0]}; download both again"
        )
    return model
