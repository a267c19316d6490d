"""run.json: which tracking run made a model; travels in the model's folder."""

from pathlib import Path

from pydantic import BaseModel, ValidationError

from liquidgen.utils.errors import UserError
from liquidgen.utils.files import write_json

RUN = "run.json"


class Note(BaseModel):
    """What run.json holds."""

    run_id: str


def write_run(folder: Path, run_id: str) -> None:
    """Record the tracking run of the model in a folder."""
    write_json(folder / RUN, Note(run_id=run_id).model_dump())


def read_run(folder: Path) -> str:
    """The tracking run of the model in a folder; raises UserError where none, or damaged."""
    path = folder / RUN
    try:
        return Note.model_validate_json(path.read_bytes()).run_id
    except FileNotFoundError:
        raise UserError(f"{path}: missing; run `dvc repro train`") from None
    except ValidationError:
        raise UserError(f"{path}: damaged; run `dvc repro train`") from None
