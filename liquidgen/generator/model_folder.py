"""Folder of a trained model: averaged weights, and the metadata needed to sample with them."""

from pathlib import Path
from typing import Any

from diffusers.utils import CONFIG_NAME, SAFETENSORS_WEIGHTS_NAME, logging
from pydantic import BaseModel, ConfigDict
from safetensors.torch import save

from liquidgen.generator.run_file import write_run
from liquidgen.latents.contract import LatentContract
from liquidgen.models.liquidnet import LiquidNet
from liquidgen.utils.errors import UserError, reason_of
from liquidgen.utils.files import StoredFile, new_folder, read_json, write_json

NETWORK = "liquidnet"
MODEL = "model.json"
REMEDY = "run `dvc repro train`"


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
    classes: tuple[str, ...] | None
    contract: LatentContract
    dataset: str
    license: str
    latents_digest: str
    recipe: dict[str, Any]
    num_epochs: int
    num_steps: int
    parameters: int

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
    if not (source / CONFIG_NAME).is_file():  # diffusers would look for it on the hub
        raise UserError(f"{source / CONFIG_NAME}: missing; {REMEDY}")
    metadata.weights.verify(source, REMEDY)
    logging.set_verbosity_error()  # everything that diffusers warns of is an error below
    try:
        model, info = LiquidNet.from_pretrained(
            source, use_safetensors=True, low_cpu_mem_usage=False, output_loading_info=True
        )
    except (OSError, ValueError, RuntimeError, TypeError) as error:
        reason = reason_of(error, lines=2)
        raise UserError(f"{source}: unreadable weights ({reason}); {REMEDY}") from None
    for kind in ("missing", "unexpected"):  # diffusers initializes missing ones at random
        if names := info[f"{kind}_keys"]:
            raise UserError(f"{source}: {len(names)} {kind} weights, such as {names[0]}; {REMEDY}")
    return model.eval().requires_grad_(False), metadata


def read_metadata(folder: Path) -> SavedModel:
    """Read model.json of a model folder."""
    return read_json(folder / MODEL, SavedModel, REMEDY)
