"""run.json: which tracking run made a model; travels in the model's folder."""

import json
from pathlib import Path

from liquidgen.errors import UserError
from liquidgen.files import write_json

RUN = "run.json"


def write_run(folder: Path, run_id: str) -> None:
    """Record the tracking run of the model in a folder."""
    write_json(folder / RUN, {"run_id": run_id})


def read_run(folder: Path) -> str:
    """The tracking run of the model in a folder; raises UserError where there is none."""
    try:
        return json.loads((folder / RUN).read_bytes())["run_id"]
    except FileNotFoundError:
        raise UserError(f"{folder / RUN}: missing; run `dvc repro train`") from None
