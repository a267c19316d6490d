"""The run of the workspace, from the files of this checkout."""

import json
import platform
from collections.abc import Callable
from datetime import datetime
from importlib import metadata
from pathlib import Path
from typing import Any, TypeVar

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from liquidgen.config.changes import changes_since_commit, experiment, git
from liquidgen.config.params import PARAMS, Params
from liquidgen.figures import GRID
from liquidgen.generator.run_file import read_run
from liquidgen.report.facts import (
    RunFacts,
    numbers,
    read_classes,
    read_curves,
    read_evaluation,
)
from liquidgen.tracking.start import as_text
from liquidgen.utils.errors import UserError, reason_of

PACKAGES = ("liquidgen", "torch", "diffusers", "numpy", "dvc", "mlflow")
Content = TypeVar("Content")


def workspace_run(params: Params) -> RunFacts:
    """Read the run that params.yaml selects.

    Raises:
        UserError: It was not evaluated, or a file is damaged.
    """
    scores = params.metrics_folder / "evaluate.json"
    evaluation = _read(scores, read_evaluation)
    if evaluation.protocol.get("samples_of") != f"model {params.run_name}":
        raise UserError(
            f"{scores}: not of {params.run_name}, which {PARAMS} selects; run `dvc repro`"
        )
    training = _read(params.metrics_folder / "train.json", json.loads)
    classes = params.evaluation_folder / "classes.csv"
    return RunFacts(
        run_id=read_run(params.model_folder),
        name=params.run_name,
        started=datetime.fromtimestamp(scores.stat().st_mtime),
        status="",
        params=settings_of(params),
        scores=evaluation.scores,
        training=numbers(training),
        evaluation=evaluation,
        curves=_read(params.metrics_folder / "train.csv", read_curves),
        classes=_read(classes, read_classes) if classes.exists() else (),  # none without classes
        grid=_read(params.samples_folder / GRID, bytes),
        neighbors=_read(params.evaluation_folder / "neighbors.png", bytes),
        lineage=_lineage(),
    )


def settings_of(params: Params) -> dict[str, str]:
    """Return the settings as MLflow has them."""
    return {key: as_text(value) for key, value in params.flat().items()}


def committed_params(params: Params) -> dict[str, str] | None:
    """Return the settings with the values of the last commit; None if it has no settings."""
    changes = changes_since_commit(params)
    if not changes.commit:
        return None
    before = {key: as_text(old) for key, (old, _) in changes.changed.items()}
    return settings_of(params) | before


def changed_since(params: Params) -> list[str]:
    """Return the keys that have other values in params.yaml than when DVC ran the stages last."""
    try:
        stages = YAML(typ="safe").load(Path("dvc.lock"))["stages"]
        recorded = {
            key: value
            for stage in stages.values()
            for key, value in stage.get("params", {}).get(str(PARAMS), {}).items()
        }
    except (OSError, YAMLError, AttributeError, KeyError, TypeError):  # DVC did not run here
        return []
    changed: list[str] = []
    for key, value in recorded.items():
        now: Any = params.raw
        for name in key.split("."):
            now = now.get(name) if isinstance(now, dict) else None
        if isinstance(now, dict) and isinstance(value, dict):
            keys = [one for one in {**now, **value} if now.get(one) != value.get(one)]
            changed += [f"{key}.{one}" for one in keys]
        elif now is not None and now != value:
            changed.append(key)
    return sorted(changed)


def _read(path: Path, parse: Callable[[bytes], Content]) -> Content:
    try:
        return parse(path.read_bytes())
    except FileNotFoundError:
        raise UserError(f"{path}: missing; run `dvc repro`") from None
    except (ValueError, KeyError, RecursionError) as error:
        remedy = "run `liquidgen repair`, then `dvc repro`"
        raise UserError(f"{path}: damaged: {reason_of(error, 1)}; {remedy}") from None


def _lineage() -> dict[str, str]:
    revision = git("rev-parse", "HEAD").decode().strip()
    changes = git("status", "--porcelain", "--untracked-files=no")
    found = {"DVC experiment": experiment()}
    if revision:
        found["git revision"] = revision + (", with changes" if changes else "")
    versions = [f"{name} {_version(name)}" for name in PACKAGES]
    found["packages here"] = ", ".join([f"Python {platform.python_version()}", *versions])
    return {name: value for name, value in found.items() if value}


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"
