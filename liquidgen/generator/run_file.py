"""run.json: the tracking run that made a model, stored in the model's folder."""

from pathlib import Path

from pydantic import BaseModel

from liquidgen.utils.files import read_json, write_json

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
    return read_json(folder / RUN, RunFile).run_id
