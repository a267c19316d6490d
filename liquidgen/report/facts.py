"""What the page shows of a run, wherever it comes from."""

import csv
import io
import json
import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated, Any, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from liquidgen.score_names import DEVIATION, NOISE, RECONSTRUCTION, TELLS_NOISE, real_name

VALIDATION_LOSS = "validation_loss"
# settings that two runs must share for their numbers to compare; batch sizes change nothing
SAME_IMAGES = ("dataset", "image_size", "download.", "encode.")
SAME_SCORES = (*SAME_IMAGES, "evaluate.", "sample.num_images")
SAME_LOSS = (*SAME_IMAGES, "autoencoder")
BEFORE_CHOICE = {"evaluate.features": "builtin"}  # of runs from before it could be chosen

Curve = list[tuple[float, float]]  # points (epoch, value)


class EvaluationFile(BaseModel):
    """Content of evaluate.json: scores by name, beside their protocol, intervals and quotes."""

    model_config = ConfigDict(extra="allow")

    protocol: dict[str, Any] = {}
    quotes: list[str] = []
    intervals: dict[str, Annotated[tuple[float, float], Field(strict=False)]] = {}

    @property
    def scores(self) -> dict[str, float]:
        """The scores by name."""
        return numbers(self.model_extra or {})


class ClassAccuracy(NamedTuple):
    """Shares of a class's images that the probe assigns to it; None: there are no such images."""

    name: str
    samples: float | None
    real: float | None


class Score(NamedTuple):
    """A score beside its floors.

    Attributes:
        name: Its name, as in evaluate.json.
        value: Its value.
        interval: Its interval, if one was computed.
        real: What real images get in the samples' place.
        noise: What decoded noise gets.
        reconstruction: What real images that were encoded and decoded get, if it was computed.
        tells_noise: Whether the score can tell noise from real images.
    """

    name: str
    value: float
    interval: tuple[float, float] | None
    real: float
    noise: float
    reconstruction: float | None
    tells_noise: bool

    def place(self, value: float) -> float | None:
        """Return where a value is between noise, 0, and real images, 1; None: there is no between.

        Values beyond are moved to the nearest end.
        """
        gap = self.real - self.noise
        if not gap or not math.isfinite(gap) or not math.isfinite(value):
            return None
        return min(1.0, max(0.0, (value - self.noise) / gap))


@dataclass(frozen=True)
class RunFacts:
    """A run: a training, and the samples and scores of its model.

    Attributes:
        run_id: MLflow's id; empty if MLflow has not answered.
        name: Name.
        started: When it was started, or evaluated if that is not known.
        status: MLflow's word for its end; empty if MLflow has not answered.
        params: Settings by their full path, as text.
        scores: Scores of evaluate by name.
        training: Numbers of the training by name.
        evaluation: Content of evaluate.json; empty if there is none.
        curves: Curves of the training by name.
        classes: Accuracy per class.
        grid: The grid of samples, as a PNG.
        neighbors: Samples beside the training images nearest to them, as a PNG.
        lineage: What the run was made from, in the order in which it is shown.
    """

    run_id: str
    name: str
    started: datetime | None
    status: str
    params: dict[str, str]
    scores: dict[str, float]
    training: dict[str, float]
    evaluation: EvaluationFile = field(default_factory=EvaluationFile)
    curves: dict[str, Curve] = field(default_factory=dict)
    classes: tuple[ClassAccuracy, ...] = ()
    grid: bytes | None = None
    neighbors: bytes | None = None
    lineage: dict[str, str] = field(default_factory=dict)

    def floors(self) -> list[Score]:
        """Return the scores that have floors, in the order of evaluate.json."""
        found = []
        for name, value in self.scores.items():
            real = self.scores.get(real_name(name))
            noise = self.scores.get(NOISE + name)
            if real is None or noise is None or name.endswith(DEVIATION):
                continue
            found.append(
                Score(
                    name,
                    value,
                    self.evaluation.intervals.get(name),
                    real,
                    noise,
                    self.scores.get(RECONSTRUCTION + name),
                    self.scores.get(name + TELLS_NOISE, 1.0) > 0,
                )
            )
        return found

    def compares(self, other: "RunFacts", name: str) -> bool:
        """Return whether a score, or the validation loss, of two runs was measured alike."""
        same = SAME_LOSS if name == VALIDATION_LOSS else SAME_SCORES
        return not any(
            key.startswith(same) and not key.endswith("batch_size")
            for key in differences(BEFORE_CHOICE | self.params, BEFORE_CHOICE | other.params)
        )

    def value(self, name: str) -> float | None:
        """Return a score, or the last validation loss."""
        values = self.training if name == VALIDATION_LOSS else self.scores
        return values.get(name)


def differences(params: dict[str, str], others: dict[str, str]) -> dict[str, tuple[str, str]]:
    """Return the settings that both have and that differ: both values by key.

    A setting that only one of them has belongs to another block, whose selector differs, or to
    another version of the code.
    """
    return {
        key: (value, others[key])
        for key, value in params.items()
        if key in others and others[key] != value
    }


def numbers(values: dict[str, Any]) -> dict[str, float]:
    """Return the entries that are numbers."""
    return {
        name: float(value)
        for name, value in values.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }


def read_evaluation(content: bytes) -> EvaluationFile:
    """Read evaluate.json.

    Raises:
        ValueError: It is damaged.
    """
    return EvaluationFile.model_validate(json.loads(content))


def read_classes(content: bytes) -> tuple[ClassAccuracy, ...]:
    """Read classes.csv.

    Raises:
        ValueError: It is damaged.
    """
    return tuple(
        ClassAccuracy(row.get("class") or "", _number(row["samples"]), _number(row["holdout"]))
        for row in _rows(content, {"samples", "holdout"})
    )


def read_curves(content: bytes) -> dict[str, Curve]:
    """Read train.csv.

    Raises:
        ValueError: It is damaged.
    """
    curves: dict[str, Curve] = {}
    for row in _rows(content, {"epoch"}):
        epoch = _number(row.pop("epoch"))
        for name, text in row.items():
            value = _number(text)
            if epoch is not None and value is not None:
                curves.setdefault(name, []).append((epoch, value))
    return curves


def _rows(content: bytes, columns: set[str]) -> Iterable[dict[str, str]]:
    table = csv.DictReader(io.StringIO(content.decode()), strict=True)
    try:
        rows = list(table)
    except csv.Error as error:
        raise ValueError(str(error)) from error
    if missing := columns - set(table.fieldnames or ()):
        raise ValueError(f"no column {', '.join(sorted(missing))}")
    return rows


def _number(text: str | None) -> float | None:
    value = float(text) if text else math.nan
    return value if math.isfinite(value) else None
