"""The folder of a trained model: averaged weights, and what is needed to sample with them."""

from pathlib import Path
from typing import Any

from diffusers.utils import CONFIG_NAME, SAFETENSORS_WEIGHTS_NAME, logging
from pydantic import BaseModel, ConfigDict
from safetensors.torch import save

from liquidgen.latents.contract import LatentContract
from liquidgen.models.liquidnet import LiquidNet
from liquidgen.tracking.run_file import write_run
from liquidgen.utils.errors import UserError
from liquidgen.utils.files import StoredFile, new_folder, read_json, write_json

NETWORK, MODEL = "liquidnet", "model.json"
REMEDY = "run `dvc repro train`"


class ModelMetadata(BaseModel):
    """What travels with the weights.

    | field | meaning |
    |---|---|
    | dataset, license | name of the dataset's block; license of its images |
    | recipe | the settings of the stage train that decide what is learnt |
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
        """Rate of null labels in training; 0 leaves nothing for guidance to contrast with."""
        return self.recipe["label_dropout"]


class SavedModel(ModelMetadata):
    """model.json: the facts, and the weights file as it was written."""

    weights: StoredFile


def save_model(folder: Path, model: LiquidNet, facts: ModelMetadata, run_id: str) -> None:
    """Write weights (safetensors, diffusers layout), model.json and run.json as one folder."""
    with new_folder(folder) as temporary:
        model.save_config(temporary / NETWORK)
        # not by save_pretrained: a full disk is no OSError there
        tensors = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
        path = temporary / NETWORK / SAFETENSORS_WEIGHTS_NAME
        path.write_bytes(save(tensors, metadata={"format": "pt"}))
        weights = StoredFile.of(path, facts.parameters)
        saved = SavedModel(**facts.model_dump(), weights=weights)
        write_json(temporary / MODEL, saved.model_dump(mode="json"))
        write_run(temporary, run_id)


def load_model(folder: Path) -> tuple[LiquidNet, SavedModel]:
    """Network and facts of a model folder.

    Raises UserError when a file is missing or damaged, or when weights and config.json differ.
    """
    facts, source = read_facts(folder), folder / NETWORK
    if not (source / CONFIG_NAME).is_file():  # diffusers would look for it on the hub
        raise UserError(f"{source / CONFIG_NAME}: missing; {REMEDY}")
    facts.weights.verify(source, REMEDY)
    logging.set_verbosity_error()  # what it warns of is refused here
    try:
        model, found = LiquidNet.from_pretrained(
            source, use_safetensors=True, low_cpu_mem_usage=False, output_loading_info=True
        )
    except (OSError, ValueError, RuntimeError, TypeError) as error:
        reason = " ".join(" ".join(str(error).splitlines()[:2]).split())
        raise UserError(f"{source}: unreadable weights ({reason}); {REMEDY}") from None
    for kind in ("missing", "unexpected"):  # diffusers draws missing ones at random
        if names := found[f"{kind}_keys"]:
            raise UserError(f"{source}: {len(names)} {kind} weights, such as {names[0]}; {REMEDY}")
    return model.eval().requires_grad_(False), facts


def read_facts(folder: Path) -> SavedModel:
    """model.json of a model folder."""
    return read_json(folder / MODEL, SavedModel, REMEDY)
