"""Samples of the best training of a contestant, scored as the pipeline does."""

import json
from pathlib import Path

import torch

from benchmarks.quality.plan import Standing
from benchmarks.quality.run import Run
from liquidgen.generator.model_folder import SavedModel
from liquidgen.stages.evaluate.evaluate import evaluate
from liquidgen.stages.sample.sample import write_samples
from liquidgen.stages.train.run_state import NOT_IN_IDENTITY
from liquidgen.utils.files import StoredFile

CPU = torch.device("cpu")


def scores_file(standing: Standing, run: Run) -> Path:
    """Return the file of the scores of a training as it stands."""
    step = standing.points(run)[-1]["step"]
    return run.field.folder / "scores" / f"{run.folder.name}-{step}.json"


def unscored(standing: Standing) -> list[Run]:
    """Return the best training of each contestant, if it has no scores yet."""
    best = map(standing.best, standing.plan.contestants)
    return [run for run in best if not scores_file(standing, run).exists()]


def score(standing: Standing, run: Run) -> None:
    """Draw and score images of a training."""
    field = run.field
    images = field.folder / "images" / run.contestant.replace(" ", "-")
    learner, _ = run.load()
    with learner.averaged() as model:
        write_samples(
            model,
            _metadata(run, learner.step),
            images / "samples",
            settings=field.params.sample,
            device=CPU,
        )
    scores = evaluate(
        images / "samples",
        field.folder / "raw",
        field.folder / "latents",
        images / "evaluation",
        settings=field.params.evaluate,
        device=CPU,
    )
    scores.write(scores_file(standing, run))


def read_scores(standing: Standing, contestant: str) -> dict | None:
    """Return the scores of the best training, or None before it has any."""
    path = scores_file(standing, standing.best(contestant))
    return json.loads(path.read_bytes()) if path.exists() else None


def _metadata(run: Run, step: int) -> SavedModel:
    """Describe a training as the stage train describes its model."""
    field = run.field
    settings = run.settings
    count = field.count_parameters(run.contestant)
    return SavedModel(
        name=run.folder.name,
        classes=field.dataset.classes,
        contract=field.dataset.contract,
        dataset=field.manifest.dataset,
        license=field.manifest.license,
        latents_digest=field.manifest.digest,
        recipe=settings.model_dump(exclude=NOT_IN_IDENTITY),
        num_epochs=1 + (step - 1) // (len(field.dataset) // settings.batch_size),
        num_steps=step,
        parameters=count,
        weights=StoredFile.of(run.checkpoint(), count),
    )
