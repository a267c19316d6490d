"""`liquidgen register`: put a trained model into MLflow's registry, from where MLflow serves it."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Option

from liquidgen.cli.sample import default_model
from liquidgen.config.params import load_params
from liquidgen.config.paths import project_root
from liquidgen.runtime.extras import require_extra
from liquidgen.tracking.address import named_uri, reason, tracking_uri, without_secrets
from liquidgen.utils.errors import UserError

if TYPE_CHECKING:
    from mlflow.models import ModelSignature

Model = Annotated[Path | None, Option(help="Folder of a model; default: as params.yaml says.")]
Name = Annotated[str | None, Option(help="Name in the registry; default: that of the folder.")]


def run(model: Model = None, name: Name = None) -> None:
    """Put a trained model into MLflow's registry, to serve it by `mlflow models serve`."""
    require_extra("pipeline")
    folder = model or default_model()
    name = name or folder.resolve().name
    print("starting MLflow ...", flush=True)
    version = register(project_root(), load_params().tracking.experiment, folder, name)
    print(f"registered: models:/{name}/{version}")


def register(root: Path, experiment: str, folder: Path, name: str) -> str:
    """Log a model with the run of its training, and register it; returns its version.

    Args:
        root: Root of the checkout.
        experiment: Name of the MLflow experiment of the training.
        folder: Folder of the model.
        name: Name in the registry.

    Raises:
        UserError: The folder holds no model, or MLflow does not take it.
    """
    from liquidgen.generator.model_folder import read_metadata
    from liquidgen.generator.run_file import read_run
    from liquidgen.tracking.sending import open_store

    run_id = read_run(folder)
    has_classes = bool(read_metadata(folder).classes)
    where = without_secrets(tracking_uri(root))
    try:
        store = open_store(root)
        run = store.rows.find(run_id, store.rows.experiment(experiment))
        if run:
            return _log(store.uri, run.info.run_id, folder, name, has_classes=has_classes)
    except Exception as error:
        raise UserError(f"MLflow at {where} does not take the model: {reason(error)}") from error
    raise UserError(f"{folder}: MLflow at {where} does not have the run of its training")


@contextmanager
def _tracking(uri: str) -> Iterator[None]:
    """Let MLflow log to a store within the context, without its advice."""
    import mlflow

    named = named_uri()
    mlflow.set_tracking_uri(uri)  # which sets MLFLOW_TRACKING_URI, too
    try:
        # of its own types, and of an example that would repeat the signature
        with warnings.catch_warnings(action="ignore"):
            yield
    finally:
        mlflow.set_tracking_uri(named or None)


def _log(uri: str, run: str, folder: Path, name: str, *, has_classes: bool) -> str:
    import mlflow
    from mlflow.models import Model

    with _tracking(uri):
        from liquidgen.pipeline import served_model

        # as mlflow.pyfunc.log_model does, but that needs an active run: it would change status and
        # end time of the training
        logged = Model.log(
            artifact_path=None,
            name="model",
            flavor=mlflow.pyfunc,
            run_id=run,
            python_model=served_model.__file__,
            artifacts={served_model.ARTIFACT: str(folder)},
            signature=signature(has_classes=has_classes),
            pip_requirements=[],  # it is served where LiquidGen is installed
            registered_model_name=name,
        )
    return str(logged.registered_model_version)


def signature(*, has_classes: bool) -> "ModelSignature":
    """Return the columns and parameters that the served model takes and returns."""
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema

    seed = ColSpec(DataType.long, "seed")
    label = [ColSpec(DataType.string, "class_labels")] if has_classes else []
    return ModelSignature(
        inputs=Schema([*label, seed]),
        outputs=Schema([ColSpec(DataType.binary, "png")]),
        params=ParamSchema(
            [
                ParamSpec("guidance_scale", DataType.double, 0.0),
                ParamSpec("num_inference_steps", DataType.long, 0),
                ParamSpec("solver", DataType.string, ""),
            ]
        ),
    )
