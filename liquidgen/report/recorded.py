"""Runs as MLflow has them. Every function here may raise what MLflow raises, or never return."""

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from liquidgen.config.changes import is_later_setting, with_current_names
from liquidgen.report.facts import (
    VALIDATION_LOSS,
    Curve,
    EvaluationFile,
    RunFacts,
    read_classes,
    read_evaluation,
)
from liquidgen.tracking.rows import DVC_TAG, EXTERNAL_ID_TAG, PARENT_TAG, TRAINING_TAG
from liquidgen.tracking.sending import open_store
from liquidgen.utils.errors import UserError
from liquidgen.utils.text import nearest_names, shown

if TYPE_CHECKING:
    from mlflow.entities import Run

DVC_EXPERIMENT = "DVC experiment"  # a name in the lineage
TRAINED_AT = "git revision of the training"
COMMIT_TAG = "mlflow.source.git.commit"
SHORT_ID = 8  # letters of an id that a list shows
MAX_ROWS = 1000  # newest rows that are read
CONTINUED = "continued."  # before a setting in a tag: its value when the run went on
# the end of an image's name is a random id, and for some a mark of a smaller copy
GRID = re.compile(r"images/samples\W+step\W+\d+\W+timestamp\W+(\d+)\W[\w-]+\.png")
LOSS = re.compile(r"(validation_)?loss(_t[\d.-]+)?$")  # names of curves
TRAIN, EVALUATE = "train/", "evaluate/"  # before the names of metrics
Content = TypeVar("Content")


class RecordedRuns:
    """The rows of an experiment: each a training with the samples and scores of one evaluation."""

    def __init__(self, root: Path, experiment: str) -> None:
        self._store = open_store(root)
        self._experiment = self._store.rows.experiment(experiment)

    @cached_property
    def rows(self) -> list["Run"]:
        """The rows, the newest first."""
        return list(
            self._store.client.search_runs(
                [self._experiment],
                "tags.stage = 'train'",
                max_results=MAX_ROWS,
                order_by=["start_time DESC"],
            )
        )

    def row_of(self, run: RunFacts) -> "Run | None":
        """Return the row that shows the run of a workspace.

        Args:
            run: The run, whose id is the one that its training was opened with.
        """
        experiment = run.lineage.get(DVC_EXPERIMENT)
        later = {key: value for key, value in run.params.items() if is_later_setting(key)}
        ids = {run.run_id}
        ids |= {
            row.info.run_id for row in self.rows if row.data.tags.get(EXTERNAL_ID_TAG) == run.run_id
        }
        for row in self.rows:
            same_training = ids & {row.info.run_id, row.data.tags.get(TRAINING_TAG)}
            params = with_current_names(row.data.params)
            same_settings = all(params.get(key, value) == value for key, value in later.items())
            if same_training and same_settings and experiment in (None, row.data.tags.get(DVC_TAG)):
                return row
        return None

    def identified(self, run: RunFacts, row: "Run | None") -> RunFacts:
        """Return the run of a workspace with what its row adds: its name, id and revision."""
        if row is None:
            return run
        training = self._training(row).data.tags.get(COMMIT_TAG, "")
        lineage = {"MLflow run": row.info.run_id, TRAINED_AT: training}
        lineage |= run.lineage
        return replace(
            run,
            run_id=row.info.run_id,
            name=_name(row),
            lineage={name: value for name, value in lineage.items() if value},
        )

    def choose(self, names: Sequence[str]) -> list["Run"]:
        """Return the rows that have these ids or names, or whose ids or names begin so.

        Raises:
            UserError: A name is of no row, or of several.
        """
        return [self._choose(name) for name in names]

    def _choose(self, name: str) -> "Run":
        known = [(row, _names(row)) for row in self.rows]
        exact = [row for row, names in known if name in names]
        begun = [row for row, names in known if any(one.startswith(name) for one in names)]
        found = exact or (begun if name else [])
        if len(found) == 1:
            return found[0]
        if found:
            some = ", ".join(f"{row.info.run_id[:SHORT_ID]} ({_name(row)})" for row in found[:4])
            more = ", ..." if len(found) > 4 else ""
            raise UserError(f"{shown(name)}: {len(found)} runs begin so: {some}{more}; give the id")
        if not known:
            raise UserError(f"{shown(name)}: MLflow has no runs yet; `dvc repro` makes one")
        # whole ids look alike: only a long name can be a mistyped one
        letters = None if len(name) > 2 * SHORT_ID else SHORT_ID
        near = [one for row, (_, *names) in known for one in (row.info.run_id[:letters], *names)]
        raise UserError(
            f"{shown(name)}: no such run; {nearest_names(name, near)}; "
            "`liquidgen compare --list` lists them"
        )

    def facts(self, row: "Run", *, details: bool = False) -> RunFacts:
        """Return what MLflow has of a row.

        Args:
            row: The row.
            details: Whether to read all curves and figures, and not only what is compared.
        """
        evaluations = self._evaluations(row)
        evaluation = self._first(evaluations, "evaluate.json", read_evaluation) or EvaluationFile()
        classes = self._first(evaluations, "classes.csv", read_classes) if details else None
        training = self._training(row)
        lineage = {
            DVC_EXPERIMENT: row.data.tags.get(DVC_TAG, ""),
            TRAINED_AT: training.data.tags.get(COMMIT_TAG, ""),
            "MLflow run": row.info.run_id,
        }
        losses = [name for name in _without(TRAIN, training.data.metrics) if LOSS.match(name)]
        return replace(
            self.summary(row),
            evaluation=evaluation,
            curves=self._curves(training, losses if details else [VALIDATION_LOSS]),
            classes=classes or (),
            grid=self._grid(row),
            neighbors=self._first(evaluations, "neighbors.png", bytes) if details else None,
            lineage={name: value for name, value in lineage.items() if value},
        )

    def summary(self, row: "Run") -> RunFacts:
        """Return what the row itself has, without another request."""
        return RunFacts(
            run_id=row.info.run_id,
            name=_name(row),
            started=datetime.fromtimestamp(row.info.start_time / 1000),
            status=row.info.status,
            params=_params(row),
            scores=_without(EVALUATE, row.data.metrics),
            training=_without(TRAIN, self._training(row).data.metrics),
        )

    def _training(self, row: "Run") -> "Run":
        """Return the row of the training, which alone has its curves."""
        training = row.data.tags.get(TRAINING_TAG)
        return next((one for one in self.rows if one.info.run_id == training), row)

    def _evaluations(self, row: "Run") -> list["Run"]:
        """Return the runs of evaluate of a row, the newest first."""
        query = f"tags.`{PARENT_TAG}` = '{row.info.run_id}' and tags.stage = 'evaluate'"
        order = ["start_time DESC"]
        return list(self._store.client.search_runs([self._experiment], query, order_by=order))

    def _curves(self, training: "Run", names: list[str]) -> dict[str, Curve]:
        """Read curves over the epochs."""
        run = training.info.run_id
        history = self._store.client.get_metric_history
        epochs = sorted((point.step, point.value) for point in history(run, f"{TRAIN}epoch"))
        if not epochs:
            return {}
        steps, at = zip(*epochs, strict=True)
        curves = {}
        for name in names:
            points = sorted((one.step, one.value) for one in history(run, f"{TRAIN}{name}"))
            curves[name] = [
                (float(np.interp(step, steps, at)), value)
                for step, value in points
                if math.isfinite(value)
            ]
        return curves

    def _grid(self, row: "Run") -> bytes | None:
        """Return the grid of a row: its own, or that of a row with the same samples."""
        for one in [row, *self._same_samples(row)]:
            paths = [file.path for file in self._files(one, "images")]
            grids = {int(found[1]): path for path in paths if (found := GRID.fullmatch(path))}
            if grids:
                return self._download(one, grids[max(grids)])
        return None

    def _same_samples(self, row: "Run") -> list["Run"]:
        """Return the other rows of a training with the same settings of sample."""

        def key(one: "Run") -> tuple[str, dict[str, str]]:
            params = with_current_names(one.data.params).items()
            training = one.data.tags.get(TRAINING_TAG, one.info.run_id)
            return training, {name: value for name, value in params if name.startswith("sample.")}

        return [one for one in self.rows if one is not row and key(one) == key(row)]

    def _first(
        self, runs: list["Run"], name: str, parse: Callable[[bytes], Content]
    ) -> Content | None:
        """Return a file of the first run that has it and in which it is not damaged."""
        for run in runs:
            if any(file.path == name for file in self._files(run)):
                try:
                    return parse(self._download(run, name))
                except ValueError:
                    continue
        return None

    def _files(self, run: "Run", folder: str | None = None) -> list:
        return self._store.client.list_artifacts(run.info.run_id, folder)

    def _download(self, run: "Run", path: str) -> bytes:
        with TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            return Path(
                self._store.client.download_artifacts(run.info.run_id, path, folder)
            ).read_bytes()


def is_evaluated(row: "Run") -> bool:
    """Return whether a row has scores."""
    return any(name.startswith(EVALUATE) for name in row.data.metrics)


def _name(row: "Run") -> str:
    return row.info.run_name or row.info.run_id[:SHORT_ID]


def _names(row: "Run") -> list[str]:
    names = (row.info.run_id, _name(row), row.data.tags.get(DVC_TAG))
    return [name for name in names if name]


def _params(row: "Run") -> dict[str, str]:
    tags = row.data.tags
    continued = {key[len(CONTINUED) :]: tags[key] for key in tags if key.startswith(CONTINUED)}
    return with_current_names(row.data.params | continued)


def _without(prefix: str, metrics: dict[str, float]) -> dict[str, float]:
    return {
        name.removeprefix(prefix): value
        for name, value in metrics.items()
        if name.startswith(prefix)
    }
