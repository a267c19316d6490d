"""Folder of a trained model: averaged weights, and the metadata needed to sample with them."""

from pathlib import Path
from typing import Any

from diffusers.utils import SAFETENSORS_WEIGHTS_NAME, logging
from pydantic import BaseModel, ConfigDict, field_validator
from safetensors.torch import save

from liquidgen.generator.network_files import check_network
from liquidgen.generator.run_file import write_run
from liquidgen.latents.contract import LatentContract
from liquidgen.models.liquidnet import LiquidNet
from liquidgen.utils.errors import UserError, reason_of
from liquidgen.utils.files import (
    REMEDY,
    ClassNames,
    Count,
    StoredFile,
    new_folder,
    read_json,
    write_json,
)

NETWORK = "liquidnet"
MODEL = "model.json"


class ModelMetadata(BaseModel):
    """Metadata of a trained model.

    Attributes:
        name: Name of the model, as of its folder.
        classes: Names of the classes in order of labels; None: the model is unconditional.
        contract: Latent contract of the training data.
        dataset: Name of the dataset's block in params.yaml.
        license: License of the dataset's images.
        latents_digest: Digest of the training latents.
        recipe: Settings of the stage train that are part of the training's identity.
        num_epochs: Epochs trained.
        num_steps: Optimizer steps trained.
        parameters: Number of parameters.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    classes: ClassNames | None
    contract: LatentContract
    dataset: str
    license: str
    latents_digest: str
    recipe: dict[str, Any]
    num_epochs: Count
    num_steps: Count
    parameters: Count

    @field_validator("recipe")
    @classmethod
    def _has_label_dropout(cls, recipe: dict[str, Any]) -> dict[str, Any]:
        rate = recipe.get("label_dropout")
        if isinstance(rate, bool) or not isinstance(rate, int | float) or not 0 <= rate <= 1:
            raise ValueError("needs a label_dropout from 0 to 1")
        return recipe

    @property
    def label_dropout(self) -> float:
        """Rate of null labels in training; guidance needs more than 0."""
        return self.recipe["label_dropout"]


class SavedModel(ModelMetadata):
    """Content of model.json: the metadata, and the size and digest of the weights file."""

    weights: StoredFile


def save_model(folder: Path, model: LiquidNet, metadata: ModelMetadata, run_id: str) -> None:
    """Write weights (safetensors, diffusers layout), model.json and run.json as one folder.

    Args:
        folder: Folder to write; an earlier one is replaced as a whole.
        model: Network with the averaged weights.
        metadata: Content of model.json.
        run_id: Tracking run of the training.
    """
    with new_folder(folder) as temporary:
        model.save_config(temporary / NETWORK)
        # save_pretrained would not raise OSError on a full disk
        tensors = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
        path = temporary / NETWORK / SAFETENSORS_WEIGHTS_NAME
        path.write_bytes(save(tensors, metadata={"format": "pt"}))
        weights = StoredFile.of(path, metadata.parameters)
        saved = SavedModel(**metadata.model_dump(), weights=weights)
        write_json(temporary / MODEL, saved.model_dump(mode="json"))
        write_run(temporary, run_id)


def load_model(folder: Path) -> tuple[LiquidNet, SavedModel]:
    """Load network and metadata from a model folder.

    Raises:
        UserError: A file is missing or damaged, or weights and config.json differ.
    """
    metadata = read_metadata(folder)
    source = folder / NETWORK
    if metadata.weights.name != SAFETENSORS_WEIGHTS_NAME:
        raise UserError(
            f"{folder / MODEL}: weights.name: must be {SAFETENSORS_WEIGHTS_NAME}; {REMEDY}"
        )
    metadata.weights.verify(source)
    network = load_network(source, metadata.classes, metadata.contract.latent_shape)
    return network.eval().requires_grad_(False), metadata


def load_network(
    source: Path,
    classes: tuple[str, ...] | None,
    latent_shape: tuple[int, int, int],
    remedy: str = REMEDY,
) -> LiquidNet:
    """Load a network that fits the classes and the latents.

    Args:
        source: Folder of config.json and weights.
        classes: Names of the classes; None: an unconditional model.
        latent_shape: Shape (C, h, w) of the latents.
        remedy: What to do about damaged files, for the message.

    Raises:
        UserError: A file is missing or damaged, or they do not fit.
    """
    check_network(source, classes, latent_shape, remedy)
    logging.set_verbosity_error()  # everything that diffusers warns of is an error below
    try:
        network, info = LiquidNet.from_pretrained(
            source, use_safetensors=True, low_cpu_mem_usage=False, output_loading_info=True
        )
    except (UserError, OSError, ValueError, RuntimeError, TypeError) as error:
        reason = reason_of(error, lines=2)
        raise UserError(f"{source}: unreadable weights ({reason}); {remedy}") from None
    if names := info["unexpected_keys"]:  # missing ones were refused before
        raise UserError(f"{source}: {len(names)} unexpected weights, such as {names[0]}; {remedy}")
    return network


def read_metadata(folder: Path) -> SavedModel:
    """Read model.json of a model folder."""
    return read_json(folder / MODEL, SavedModel)
