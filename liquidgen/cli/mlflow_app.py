"""MLflow's server with one more page, /liquidgen, which opens the table or the charts of the runs.

MLflow keeps what a page shows in the browser, by its own address, so that only a page of the same
server can set it. This one hides MLflow's assistant once, chooses the pages for trainings, and
takes over the view of the runs once per version of the view: changes of the user stay.

`mlflow server --app-name liquidgen` starts it, by MLflow's entry point for such applications. The
keys below are those of MLflow 3.17; a front end that does not know them ignores them.
"""

import os

from mlflow.server.fastapi_app import app
from starlette.requests import Request
from starlette.responses import HTMLResponse
from starlette.routing import Route

from liquidgen.cli.mlflow_view import EXPERIMENT_VARIABLE, PATH, VIEW_TAG

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


async def page(request: Request) -> HTMLResponse:
    """Return the page, which is the same for every request."""
    experiment = os.environ[EXPERIMENT_VARIABLE]
    if not experiment.isdecimal():
        raise ValueError(f"{EXPERIMENT_VARIABLE}: no id of an experiment")
    return HTMLResponse(PAGE % (experiment, VIEW_TAG), headers={"Cache-Control": "no-store"})


# before the last route, which takes every path
app.router.routes.insert(0, Route(PATH, page))
