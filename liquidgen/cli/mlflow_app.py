"""MLflow's server with one more page, /liquidgen, which opens the table or the charts of the runs.

MLflow keeps what a page shows in the browser, by its own address, so that only a page of the same
server can set it. This one hides MLflow's assistant once, chooses the pages for trainings, and
takes over the view of the runs once per version of the view: changes of the user stay.

`liquidgen ui` starts it by `mlflow server --app-name liquidgen`, MLflow's entry point for such
applications, with the experiment's id in an environment variable; without it the page fails. The
keys below are those of MLflow 3.17; a front end that does not know them ignores them.
"""

import os

from mlflow.server import app as pages
from mlflow.server.fastapi_app import app

from liquidgen.cli.mlflow_view import EXPERIMENT_VARIABLE, PATH, VIEW_TAG

__all__ = ["app"]  # the server, of which `pages` are a part
PAGE = """<!doctype html>
<meta charset="utf-8">
<title>LiquidGen</title>
<script>
const experiment = "%s", tag = "%s";
const once = (key, value) => localStorage.getItem(key) ?? localStorage.setItem(key, value);
once("mlflow.assistant.fab.autoOpenedOnFirstLoad_v1", "true");
localStorage.setItem("mlflow.workflowType_v1", '"machine_learning"');
fetch(`ajax-api/2.0/mlflow/experiments/get?experiment_id=${experiment}`)
  .then(answer => answer.json())
  .then(({experiment: {tags}}) => {
    const view = tags.find(({key}) => key === tag).value;
    const scope = `liquidgen.view.${experiment}`;
    if (localStorage.getItem(scope) !== view) {
      const state = `MLflowLocalStorage-1.1-ExperimentPage-["${experiment}"]-ReactComponentState`;
      localStorage.setItem(state, view);
      localStorage.setItem(scope, view);
    }
  })
  .finally(() => {
    const mode = location.search === "?charts" ? "&compareRunsMode=CHART" : "";
    location.replace(`./#/experiments/${experiment}/runs?workflowType=machine_learning${mode}`);
  });
</script>
"""


@pages.route(PATH)
def page() -> tuple[str, dict[str, str]]:
    """Return the page, and its headers."""
    experiment = int(os.environ[EXPERIMENT_VARIABLE])
    return PAGE % (experiment, VIEW_TAG), {"Cache-Control": "no-store"}
