"""Locates, checks and loads the weights of autoencoders."""

import json
import logging
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
from liquidgen.utils.text import listed, unquoted

if TYPE_CHECKING:
    import torch
    from diffusers import ModelMixin

log = logging.getLogger(__name__)
SHIPPED = Path(__file__).parent / "builtin"
CONFIG = "config.json"
WEIGHTS = "diffusion_pytorch_model.safetensors"


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
        known = listed(sorted(listing.files), unquoted)
        raise UserError(
            f"{repo}: no file {missing[0]!r}; there are: {known}; correct `path` of the block"
        )
    folder = download(repo, listing.commit, names, force=folder is not None)
    return _checked(folder / inside, settings)


def _checked(folder: Path, settings: AutoencoderSettings) -> tuple[Path, str]:
    _check_config(folder, settings)
    digest = file_sha256(folder / WEIGHTS)
    if settings.sha256 is not None and digest != settings.sha256:
        raise _Damaged(
            f"{settings.path}: weights have sha256 {digest[:12]}, but the block's sha256 is "
            f"{settings.sha256[:12]}: it is a different file or damaged; download it again, or "
            "correct the block"
        )
    return folder, digest


def _check_config(folder: Path, settings: AutoencoderSettings) -> None:
    """Check an autoencoder's folder and its config.json against the settings."""
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
    downscale = 2 ** (len(config.get(kind.stages, [])) - 1)
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
        return json.loads(path.read_bytes())
    except ValueError as error:
        raise _Damaged(f"{path}: not valid JSON ({error}); download it again") from None


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
        raise UserError(
            f"{folder / WEIGHTS}: unreadable ({reason}); download it again (`hf cache rm` removes "
            "a copy in the hub's cache)"
        ) from None
    if info["missing_keys"]:
        raise UserError(
            f"{folder / WEIGHTS}: lacks {len(info['missing_keys'])} weights that config.json asks"
            f" for, such as {info['missing_keys'][0]}; download both again"
        )
    return model
