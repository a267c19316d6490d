"""Checks a saved pipeline before anything of it is loaded."""

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Literal

from diffusers import DiffusionPipeline, ModelMixin
from diffusers.utils import SAFETENSORS_WEIGHTS_NAME
from pydantic import BaseModel, ConfigDict, Field, RootModel

from liquidgen.generator.model_folder import NETWORK, ModelMetadata
from liquidgen.generator.network_files import check_network
from liquidgen.latents.weights import (
    KINDS,
    check_autoencoder_folder,
    check_size,
    weight_shapes,
)
from liquidgen.pipeline.card import PublishedScores
from liquidgen.utils.errors import UserError
from liquidgen.utils.files import Digest, file_sha256, read_json
from liquidgen.utils.text import shown

log = logging.getLogger(__name__)
AUTOENCODER = "autoencoder"
NETWORKS = (NETWORK, AUTOENCODER)
KEY = rf"^({NETWORK}|{AUTOENCODER})(\.\w+)?$"  # of a digest
REMEDY = "download or save it again (`hf cache rm` removes a copy in the hub's cache)"


LOADER = '''"""Lets DiffusionPipeline.from_pretrained find the class, if LiquidGen is installed."""

from liquidgen import LiquidGenPipeline

__all__ = ["LiquidGenPipeline"]
'''


class Weights(RootModel[dict[Annotated[str, Field(pattern=KEY)], Digest]]):
    """SHA-256 digests of weights files by network, or by network.variant."""

    @classmethod
    def of(cls, folder: Path, variant: str | None = None) -> "Weights":
        """Return those of a saved pipeline, of one variant alone."""
        file, suffix = weights_name(variant), f".{variant}" if variant else ""
        return cls({f"{name}{suffix}": file_sha256(folder / name / file) for name in NETWORKS})


class SavedIndex(BaseModel):
    """Content of model_index.json: classes of the components, and the metadata."""

    model_config = ConfigDict(extra="forbid")

    class_name: Annotated[str, Field(alias="_class_name")]
    diffusers_version: Annotated[str, Field(alias="_diffusers_version")] = ""
    name_or_path: Annotated[str | None, Field(alias="_name_or_path")] = None
    # only these classes are ever imported
    liquidnet: tuple[Literal["liquidgen.models.liquidnet"], Literal["LiquidNet"]]
    autoencoder: tuple[Literal["diffusers"], str]
    scheduler: tuple[Literal["diffusers"], Annotated[str, Field(pattern=r"^\w+Scheduler$")]]
    facts: ModelMetadata
    scores: PublishedScores | None = None
    weights: Weights | None = None


@contextmanager
def only_variant(folder: Path, variant: str | None) -> Iterator[Path]:
    """Show the folder of a saved pipeline as if a variant's weights were its only ones.

    Yields:
        A folder of links, which lasts as long as the context; the folder itself without a variant.

    Raises:
        UserError: The pipeline has no such variant; and any other one of the context, which names
            the folder instead of the links.
    """
    if variant is None:
        yield folder
        return
    name = weights_name(variant)
    if missing := [one for one in NETWORKS if not (folder / one / name).is_file()]:
        raise UserError(f"{folder / missing[0] / name}: no such variant; leave `variant` out")
    with TemporaryDirectory() as links:
        for path in folder.rglob("*.json"):
            link = Path(links) / path.relative_to(folder)
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(path.resolve())
        for network in NETWORKS:
            link = Path(links) / network / SAFETENSORS_WEIGHTS_NAME
            link.symlink_to((folder / network / name).resolve())
        try:
            yield Path(links)
        except UserError as error:
            raise UserError(str(error).replace(links, str(folder))) from None


def check_same_model(folder: Path, variant: str | None, facts: ModelMetadata) -> dict[str, str]:
    """Check that weights in a folder, which a save leaves there, are of the model that is saved.

    Args:
        folder: Folder to save to, which may not exist.
        variant: Whose weights are written.
        facts: Metadata of the model.

    Returns:
        The recorded digests of the weights that stay.

    Raises:
        UserError: They are of another model: they would count as this one's.
    """
    stem, suffix = SAFETENSORS_WEIGHTS_NAME.split(".")
    files = [path for name in NETWORKS for path in (folder / name).glob(f"{stem}*.{suffix}")]
    others = sorted(path for path in files if path.name != weights_name(variant))
    if not others:
        return {}
    try:
        index = read_json(folder / DiffusionPipeline.config_name, SavedIndex, REMEDY)
    except UserError:
        index = None
    if index is None or index.facts != facts:
        raise UserError(f"{others[0]}: weights of another model; save to another folder")
    return index.weights.root if index.weights else {}


def write_loader(folder: Path) -> None:
    """Write the file that diffusers runs, if asked to, by `custom_pipeline="pipeline"`.

    LiquidGen itself never does.
    """
    (folder / "pipeline.py").write_text(LOADER)


def weights_name(variant: str | None) -> str:
    """Return the name of the file of a network's weights."""
    return SAFETENSORS_WEIGHTS_NAME.replace(".", f".{variant}." if variant else ".")


def check_saved(folder: Path, class_name: str, variant: str | None = None) -> None:
    """Check that a folder holds a whole saved pipeline of a class.

    Args:
        folder: The folder.
        class_name: Name of the class.
        variant: Whose weights they are, see `only_variant`.

    Raises:
        UserError: It does not, a file is missing or damaged, or they do not fit each other.
    """
    path = folder / DiffusionPipeline.config_name
    try:
        found = json.loads(path.read_bytes())["_class_name"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        found = None
    if found != class_name:
        held = shown(found) if found else "neither a model.json nor a whole model_index.json"
        raise UserError(f"{folder}: holds no LiquidGen model, but {held}; give another folder")
    index = read_json(path, SavedIndex, REMEDY)
    contract = index.facts.contract
    if index.autoencoder[1] != (expected := KINDS[contract.autoencoder.kind].class_name):
        raise UserError(f"{path}: autoencoder: must be {expected}; {REMEDY}")
    check_network(folder / NETWORK, index.facts.classes, contract.latent_shape, REMEDY)
    check_autoencoder_folder(folder / AUTOENCODER, contract.autoencoder)
    check_size(folder / AUTOENCODER, expected)
    suffix = f".{variant}" if variant else ""
    recorded = index.weights.root if index.weights else {}
    for name in NETWORKS:
        weights = folder / name / SAFETENSORS_WEIGHTS_NAME
        digest = recorded.get(f"{name}{suffix}")
        if digest is None and variant and recorded:
            raise UserError(f"{weights}: not saved with this pipeline; leave `variant` out")
        if digest is None:
            log.warning("%s: saved by an earlier version, its weights have no digests", folder)
            return
        if digest != file_sha256(weights):
            raise UserError(f"{weights}: damaged, its sha256 is not the recorded one; {REMEDY}")


def check_complete(folder: Path, networks: dict[str, ModelMixin]) -> None:
    """Check that no weights of the loaded networks are missing: diffusers draws them at random.

    Raises:
        UserError: Some are.
    """
    for name, network in networks.items():
        path = folder / name / SAFETENSORS_WEIGHTS_NAME
        held = weight_shapes(path, REMEDY)
        if missing := [weight for weight in network.state_dict() if weight not in held]:
            raise UserError(f"{path}: lacks {len(missing)} weights, such as {missing[0]}; {REMEDY}")
