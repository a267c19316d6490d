"""Samples of the best training of a contestant, scored as the pipeline does."""

import json
from pathlib import Path

import torch

from benchmarks.baselines import parameters
from benchmarks.quality.plan import Plan
from benchmarks.quality.run import Run
from liquidgen.generator.model_folder import SavedModel
from liquidgen.stages.evaluate.evaluate import evaluate, write_scores
from liquidgen.stages.sample.sample import write_samples
from liquidgen.stages.train.run_state import NOT_IN_IDENTITY
from liquidgen.utils.files import StoredFile, locked

CPU = torch.device("cpu")


def best_run(plan: Plan, contestant: str) -> Run:
    """Return the training with the lowest last validation loss over the seeds."""
    runs = [run for run in plan.compared(contestant) if run.points()]
    return min(runs, key=lambda run: run.points()[-1]["validation_loss"])


def scores_file(run: Run) -> Path:
    """Return the file of the scores of a training at its newest checkpoint."""
    return run.field.folder / "scores" / f"{run.folder.name}-{run.points()[-1]['step']}.json"


def score(plan: Plan, contestant: str) -> None:
    """Draw and score images of the best training, unless that is done."""
    run = best_run(plan, contestant)
    images = run.field.folder / "images" / contestant.replace(" ", "-")
    with locked(images, "scores it", patience=3600):
        if not scores_file(run).exists():
            _score(run, images)


def _score(run: Run, images: Path) -> None:
    field = run.field
    learner, _ = run.load()
    with learner.averaged() as model:
        write_samples(
            model,
            _metadata(run, parameters(model), learner.step),
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
    write_scores(scores_file(run), scores)


def read_scores(plan: Plan, contestant: str) -> dict | None:
    """Return the scores of the best training, or None before it has any."""
    path = scores_file(best_run(plan, contestant))
    return json.loads(path.read_bytes()) if path.exists() else None


def _metadata(run: Run, count: int, step: int) -> SavedModel:
    """Describe a training as the stage train describes its model."""
    field = run.field
    settings = field.train_settings(run.learning_rate, run.seed)
    manifest = field.manifest
    return SavedModel(
        name=run.folder.name,
        classes=field.dataset.classes,
        contract=field.dataset.contract,
        dataset=manifest.dataset,
        license=manifest.license,
        latents_digest=manifest.digest,
        recipe=settings.model_dump(exclude=NOT_IN_IDENTITY),
        num_epochs=1 + step * settings.batch_size // len(field.dataset),
        num_steps=step,
        parameters=count,
        weights=StoredFile.of(run.checkpoint(), count),
    )
