"""`liquidgen register`: a model in MLflow's registry, which draws PNG files."""

import io
import shutil
from pathlib import Path

import pandas as pd
import pytest
from mlflow.exceptions import MlflowException
from PIL import Image, ImageChops

from liquidgen.cli.register import register
from liquidgen.flow.solvers import scheduler_of
from liquidgen.generator.run_file import read_run
from liquidgen.pipeline.pipeline import LiquidGenPipeline
from liquidgen.tracking import open_run
from liquidgen.tracking.store import Store
from liquidgen.utils.errors import UserError
from liquidgen.utils.files import write_json


@pytest.fixture
def recorded(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model whose training is recorded in a checkout; returns its folder."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    folder = tmp_path / "data/models/mine"
    shutil.copytree(model, folder)
    with open_run(tmp_path, "test", "train", name="mine", params={}) as run:
        run.log_metrics({"loss": 1.0}, 1)
    write_json(folder / "run.json", {"run_id": run.run_id})
    return folder


def test_row_of_the_training_stays_as_it_is(recorded: Path, tmp_path: Path):
    rows = Store(tmp_path).rows
    found = rows.find(read_run(recorded), rows.experiment("test"))
    client = Store(tmp_path).client
    client.set_terminated(found.info.run_id, "RUNNING", 1_000)
    register(tmp_path, "test", recorded, "mine")
    after = client.get_run(found.info.run_id).info
    assert (after.status, after.end_time) == ("RUNNING", 1_000)
    version = client.get_model_version("mine", "1")
    assert version.run_id == found.info.run_id
    requirements = next((tmp_path / "mlruns").rglob("requirements.txt"))
    assert requirements.read_text().startswith("mlflow==")
    assert "liquidgen" not in requirements.read_text()


def test_registered_model_draws_as_the_pipeline(recorded: Path, tmp_path: Path):
    import mlflow

    assert register(tmp_path, "test", recorded, "mine") == "1"
    client = Store(tmp_path).client
    run = client.get_model_version("mine", "1").run_id
    assert client.get_run(run).info.status == "FINISHED"
    mlflow.set_tracking_uri(client.tracking_uri)
    served = mlflow.pyfunc.load_model("models:/mine/1")
    mlflow.set_tracking_uri(None)
    pipe = LiquidGenPipeline.from_pretrained(recorded)
    name = pipe.classes[1]
    pipe.scheduler = scheduler_of("heun")
    drawn = served.predict(
        pd.DataFrame({"class_labels": [name, "0"], "seed": [3, 4]}),
        {"num_inference_steps": 2, "solver": "heun"},
    )
    for png, label, seed in zip(drawn["png"], (1, 0), (3, 4), strict=True):
        expected = pipe(label, num_images=1, seed=seed, num_inference_steps=2).images[0]
        with Image.open(io.BytesIO(png)) as image:
            assert image.format == "PNG"
            assert ImageChops.difference(image, expected).getbbox() is None
    with pytest.raises(MlflowException, match="class 'nothing': not known"):
        served.predict(pd.DataFrame({"class_labels": ["nothing"], "seed": [0]}))
    with pytest.raises(MlflowException, match="seed"):
        served.predict(pd.DataFrame({"class_labels": [name]}))
    assert register(tmp_path, "test", recorded, "mine") == "2"


def test_model_of_an_unknown_training_is_refused(recorded: Path, tmp_path: Path):
    write_json(recorded / "run.json", {"run_id": "0" * 32})
    with pytest.raises(UserError, match="does not have the run of its training"):
        register(tmp_path, "test", recorded, "mine")
