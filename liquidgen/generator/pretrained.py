"""Weights that a training starts from: a model folder, or a saved pipeline, also on the hub."""

from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import DiffusionPipeline
from diffusers.utils import CONFIG_NAME, SAFETENSORS_WEIGHTS_NAME
from pydantic import BaseModel
from torch import Tensor
from torch.nn import functional as F

from liquidgen.config.paths import own_path
from liquidgen.generator.model_folder import (
    MODEL,
    NETWORK,
    ModelMetadata,
    load_network,
    read_metadata,
)
from liquidgen.hub.download import cached, download, look_up
from liquidgen.hub.repository import SCHEME, parse_address
from liquidgen.latents.contract import LatentContract
from liquidgen.models.liquidnet import LiquidNet
from liquidgen.utils.errors import UserError
from liquidgen.utils.files import file_sha256, read_json

SAVED = DiffusionPipeline.config_name  # of a saved pipeline
NETWORK_FILES = (f"{NETWORK}/{CONFIG_NAME}", f"{NETWORK}/{SAFETENSORS_WEIGHTS_NAME}")
LABELS = "condition.label.weight"
POSITION = "position.weight"
REMEDY = "give another folder, or download it again"


class _Saved(BaseModel):
    """What is read of a saved pipeline's model_index.json."""

    facts: ModelMetadata
    weights: dict[str, str] | None = None  # SHA-256 digests


@dataclass(frozen=True)
class Pretrained:
    """A trained network.

    Attributes:
        address: As the user gave it.
        digest: SHA-256 of its weights file.
        network: The network, with averaged weights.
        metadata: What it was trained on.
    """

    address: str
    digest: str
    network: LiquidNet
    metadata: ModelMetadata

    def check(self, contract: LatentContract, network: dict) -> None:
        """Check that a training can start from these weights.

        Args:
            contract: Latent contract of the training's latents.
            network: Arguments of its LiquidNet.

        Raises:
            UserError: The latents are of another autoencoder, or the network has other sizes.
        """
        where = f"train.init_from: {self.address}"
        theirs = self.metadata.contract
        if theirs.autoencoder_digest != contract.autoencoder_digest:
            raise UserError(
                f"{where}: trained on latents of another autoencoder "
                f"({theirs.autoencoder_digest[:12]}; these are of "
                f"{contract.autoencoder_digest[:12]}); choose its autoencoder, or another model"
            )
        for key in ("width", "depth", "cond_dim", "patch_size", "block", "block_settings"):
            has = self.network.config[key]
            if has not in (network[key], [network[key]]):  # one level may be a list or a number
                raise UserError(
                    f"{where}: its {key} is {has}, but that of this training is {network[key]}; "
                    "choose its model and block, or another model"
                )

    @torch.no_grad()
    def copy_to(self, network: LiquidNet, classes: tuple[str, ...] | None) -> None:
        """Copy the weights.

        A class that the trained network lacks begins as its null label, and positions are resized.

        Args:
            network: The network, of equal sizes.
            classes: Names of its classes; None: no classes.
        """
        weights = dict(self.network.state_dict())
        weights[LABELS] = self._label_weights(weights[LABELS], classes or ())
        grid = network.position.weight.shape[-2:]
        weights[POSITION] = F.interpolate(weights[POSITION], grid, mode="bilinear")
        network.load_state_dict(weights)

    def _label_weights(self, weight: Tensor, classes: tuple[str, ...]) -> Tensor:
        known = {name: row for row, name in enumerate(self.metadata.classes or ())}
        null = self.network.null_label
        return weight[[known.get(name, null) for name in classes] + [null]]

    def summary(self, classes: tuple[str, ...] | None) -> str:
        """Return what of the weights a training takes."""
        names = classes or ()
        known = set(names) & set(self.metadata.classes or ())
        labels = f", {len(known)} of {len(names)} classes by name" if names else ""
        return f"train: starts from {self.address} ({self.metadata.num_steps:,} steps){labels}"


def load_pretrained(address: str) -> Pretrained:
    """Load a trained network.

    Args:
        address: A model folder, the folder of a saved pipeline, or hf://owner/name@revision.

    Raises:
        UserError: Nothing is there, it is damaged, or the hub does not give it.
    """
    folder = _downloaded(address) if address.startswith(SCHEME) else own_path(address)
    source = folder / NETWORK
    if (folder / MODEL).is_file():
        saved_model = read_metadata(folder)
        metadata: ModelMetadata = saved_model
        recorded: str | None = saved_model.weights.sha256
    elif (folder / SAVED).is_file():
        saved_pipeline = read_json(folder / SAVED, _Saved, REMEDY)
        metadata = saved_pipeline.facts
        recorded = (saved_pipeline.weights or {}).get(NETWORK)
    else:
        raise UserError(
            f"train.init_from: {address}: holds no LiquidGen model; give a folder with {MODEL} or "
            f"{SAVED}, or hf://owner/name@revision"
        )
    network = load_network(source, metadata.classes, metadata.contract.latent_shape, REMEDY)
    digest = file_sha256(source / SAFETENSORS_WEIGHTS_NAME)
    if recorded not in (None, digest):
        raise UserError(f"{source}: damaged, its sha256 is not the recorded one; {REMEDY}")
    return Pretrained(address, digest, network, metadata)


def _downloaded(address: str) -> Path:
    """Return the folder of a model on the hub, from the cache where it is complete."""
    try:
        repo, inside = parse_address(address)
    except UserError as error:
        raise UserError(f"train.init_from: {str(error).removeprefix('path: ')}") from None
    prefix = f"{inside}/" if inside else ""
    for index in (MODEL, SAVED):
        names = [prefix + name for name in (index, *NETWORK_FILES)]
        if (folder := cached(repo, repo.revision, names)) is not None:
            return folder / inside
    listing = look_up(repo)
    indexes = [name for name in (MODEL, SAVED) if prefix + name in listing.files]
    names = [prefix + name for name in (*indexes[:1], *NETWORK_FILES)]
    if not indexes or any(name not in listing.files for name in names):
        raise UserError(
            f"train.init_from: {address}: holds no LiquidGen model; correct the address"
        )
    return download(repo, listing.commit, names) / inside
