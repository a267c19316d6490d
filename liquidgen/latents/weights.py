"""Where an autoencoder is, whether it is the one of the settings, and its weights."""

import json
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from liquidgen.config.paths import own_path
from liquidgen.config.settings import AutoencoderSettings
from liquidgen.hub.repository import SCHEME, model_folder
from liquidgen.hub.snapshot import cached, fetch
from liquidgen.hub.transfer import SHA256_LENGTH
from liquidgen.latents.kinds import KINDS
from liquidgen.utils.errors import UserError
from liquidgen.utils.files import file_sha256

if TYPE_CHECKING:
    import torch

SHIPPED = Path(__file__).parent / "builtin"
CONFIG, WEIGHTS = "config.json", "diffusion_pytorch_model.safetensors"


class _Damaged(UserError):
    """A file that may be another after another download."""


def weights_digest(settings: AutoencoderSettings) -> str:
    """SHA-256 of the weights file of `settings`, as `digest` of the loaded autoencoder gives it.

    Raises UserError as `load_autoencoder` does.
    """
    return checked_folder(settings)[1]


def checked_folder(settings: AutoencoderSettings) -> tuple[Path, str]:
    """Folder and digest of the weights, after both files were compared with the settings.

    Raises UserError when they differ, or the hub does not give them.
    """
    if settings.path is None:
        return _checked(SHIPPED, settings)
    if not settings.path.startswith(SCHEME):
        return _checked(own_path(settings.path), settings)
    place, inside = model_folder(settings.path)
    names = [f"{inside}/{name}".lstrip("/") for name in (CONFIG, WEIGHTS)]
    # the copy in the cache first: weights are chosen once, and their digest is compared
    if (found := cached(place, names)) is not None:
        with suppress(_Damaged):
            return _checked(found.folder / inside, settings)
    return _checked(fetch(place, names).folder / inside, settings)


def _checked(folder: Path, settings: AutoencoderSettings) -> tuple[Path, str]:
    _check_config(folder, settings)
    digest = file_sha256(folder / WEIGHTS)
    if settings.sha256 is not None and digest != settings.sha256:
        raise _Damaged(
            f"{settings.path}: weights have sha256 {digest[:12]}, but the block's sha256 is "
            f"{settings.sha256[:12]}: they are others, or damaged; download them again, or correct "
            "the block"
        )
    # in the hub's cache it is a link to a file whose name is the digest
    stored = (folder / WEIGHTS).resolve()
    if len(stored.name) == SHA256_LENGTH and digest != stored.name:
        raise _Damaged(f"{stored}: damaged, its sha256 is not its name; download it again")
    return folder, digest


def _check_config(folder: Path, settings: AutoencoderSettings) -> None:
    """Compare an autoencoder's folder and its config.json with the settings."""
    if not folder.is_dir():
        raise UserError(f"autoencoder path '{folder}': no such folder; correct the path")
    for name in (CONFIG, WEIGHTS):
        if not (folder / name).is_file():
            raise UserError(f"autoencoder path '{folder}': has no {name}; need diffusers' layout")
    kind, config = KINDS[settings.kind], _read_config(folder / CONFIG)
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
    # what diffusers assumes of an AutoencoderKL that does not say
    if settings.precision == "fp16" and config.get("force_upcast", settings.kind == "kl"):
        raise UserError(
            f"autoencoder precision: fp16, but '{folder}' overflows in it (its {CONFIG} has "
            "force_upcast); set bf16 or fp32"
        )


def _read_config(path: Path) -> dict:
    try:
        return json.loads(path.read_bytes())
    except ValueError as error:
        raise _Damaged(f"{path}: not valid JSON ({error}); download it again") from None


def read_weights(folder: Path, class_name: str) -> "torch.nn.Module":
    """The network of a folder in fp32; raises UserError for files that do not hold it."""
    import diffusers  # takes seconds: only once the folder is known to be right
    import torch
    from diffusers.utils import logging
    from safetensors import SafetensorError

    logging.set_verbosity_error()  # it warns of a harmless key in TAEF1's config.json
    try:
        model, info = getattr(diffusers, class_name).from_pretrained(
            folder,
            torch_dtype=torch.float32,
            use_safetensors=True,
            low_cpu_mem_usage=False,
            output_loading_info=True,
        )
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"{folder / WEIGHTS}: unreadable ({reason}); download it again") from None
    if info["missing_keys"]:
        raise UserError(
            f"{folder / WEIGHTS}: lacks {len(info['missing_keys'])} weights that config.json asks"
            f" for, such as {info['missing_keys'][0]}; download both again"
        )
    return model
