"""Checks a saved pipeline before anything of it is loaded."""

import json
import logging
from pathlib import Path
from typing import Annotated, Literal

from diffusers import DiffusionPipeline, ModelMixin
from diffusers.utils import SAFETENSORS_WEIGHTS_NAME
from pydantic import BaseModel, ConfigDict, Field

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
REMEDY = "download or save it again (`hf cache rm` removes a copy in the hub's cache)"


class Weights(BaseModel):
    """SHA-256 digests of the weights of both networks, as they were saved."""

    model_config = ConfigDict(extra="forbid")

    liquidnet: Digest
    autoencoder: Digest

    @classmethod
    def of(cls, folder: Path) -> "Weights":
        """Return those of a saved pipeline."""
        paths = {name: folder / name / SAFETENSORS_WEIGHTS_NAME for name in cls.model_fields}
        return cls(**{name: file_sha256(path) for name, path in paths.items()})


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


def check_saved(folder: Path, class_name: str) -> None:
    """Check that a folder holds a whole saved pipeline of a class.

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
    if index.weights is None:
        log.warning("%s: saved by an earlier version, its weights have no digests", folder)
        return
    for name, digest in Weights.of(folder):
        if digest != getattr(index.weights, name):
            weights = folder / name / SAFETENSORS_WEIGHTS_NAME
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
