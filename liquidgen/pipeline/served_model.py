"""The model that MLflow serves: rows of class label and seed in, PNG files out.

MLflow stores this file with a registered model and runs it when the model is loaded: nothing is
pickled.
"""

import io
from threading import Lock
from typing import Any

import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel, PythonModelContext

from liquidgen.utils.errors import UserError

ARTIFACT = "model"  # the folder of the trained model


class ServedModel(PythonModel):
    """Draws one image per row."""

    def load_context(self, context: PythonModelContext) -> None:
        """Load the pipeline."""
        from liquidgen.compute.device import resolve_device
        from liquidgen.pipeline.pipeline import LiquidGenPipeline

        self._pipe = LiquidGenPipeline.from_pretrained(context.artifacts[ARTIFACT])
        self._pipe.to(resolve_device("auto"))
        self._pipe.set_progress_bar_config(disable=True)
        self._scheduler = self._pipe.scheduler  # of calls that name no solver
        self._lock = Lock()  # MLflow calls from many threads; a pipeline keeps state as it draws

    # with another hint than pandas' MLflow warns whenever it loads the model
    def predict(
        self,
        context: PythonModelContext,
        model_input: pd.DataFrame,
        params: dict[str, Any] | None = None,
    ) -> pd.DataFrame:
        """Draw images.

        Args:
            context: Not used.
            model_input: Columns `class_labels` (one name or id per row; a model without classes has
                no such column) and `seed`.
            params: `guidance_scale`, `num_inference_steps`, `solver`.

        Returns:
            The column `png`: a PNG file per row, which MLflow's server sends as base64.

        Raises:
            MlflowException: A class or an option is unknown.
        """
        from liquidgen.flow.solvers import scheduler_of

        # the signature has no null: 0 and "" stand for the defaults of the pipeline
        options = {name: value for name, value in (params or {}).items() if value}
        try:
            with self._lock:
                solver = options.pop("solver", None)
                self._pipe.scheduler = scheduler_of(solver) if solver else self._scheduler
                files = [self._png(row, options) for row in model_input.to_dict("records")]
        except UserError as error:
            raise MlflowException.invalid_parameter_value(str(error)) from None
        return model_input.assign(png=files)[["png"]]

    def _png(self, row: dict[Any, Any], options: dict[str, Any]) -> bytes:
        label = row.get("class_labels") or None
        [[image]] = self._pipe(
            label, num_images=1, seed=int(row["seed"]), return_dict=False, **options
        )
        file = io.BytesIO()
        image.save(file, "png")
        return file.getvalue()


set_model(ServedModel())
