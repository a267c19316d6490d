"""run.json: the tracking run that made a model, stored in the model's folder."""

from pathlib import Path

from pydantic import BaseModel, ValidationError

from liquidgen.utils.errors import UserError
from liquidgen.utils.files import write_json

RUN = "run.json"


class RunFile(BaseModel):
    """Content of run.json."""

    run_id: str


def write_run(folder: Path, run_id: str) -> None:
    """Write run.json into the folder of a model."""
    write_json(folder / RUN, RunFile(run_id=run_id).model_dump())


def read_run(folder: Path) -> str:
    """Return the run id from run.json in the folder of a model.

    Raises:
        UserError: The file is missing or damaged.
    """
    path = folder / RUN
    try:
        return RunFile.model_validate_json(path.read_bytes()).run_id
    except FileNotFoundError:
        raise UserError(f"{path}: missing; run `dvc repro train`") from None
    except ValidationError:
        raise UserError(f"{path}: damaged; run `dvc repro train`") from None
