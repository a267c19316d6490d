"""Writes the model folder, the training scores and the loss curve of a finished training."""

import csv
import io
from pathlib import Path

from liquidgen.generator.model_folder import ModelMetadata, save_model
from liquidgen.stages.train.trainer import Trainer
from liquidgen.utils.files import atomic, write_json


def train_scores(trainer: Trainer) -> dict[str, float]:
    """Return the last losses, the throughput and the sizes of a training."""
    progress = trainer.progress
    learner = trainer.learner
    images = learner.step * trainer.settings.batch_size
    return {
        **progress.curve[-1],
        "num_steps": learner.step,
        "num_images": images,
        "images_per_second": images / progress.seconds,
        "seconds": progress.seconds,
        "skipped_steps": progress.skipped_steps,
        "parameters": learner.model.num_parameters(),
        "peak_memory_mb": progress.peak_memory_mb,
    }


def model_metadata(trainer: Trainer, name: str) -> ModelMetadata:
    """Return the metadata of the model as it is trained so far."""
    training = trainer.training
    manifest = training.dataset.manifest
    licenses = [manifest.license]
    if training.pretrained:
        licenses.append(training.pretrained.metadata.license)
    return ModelMetadata(
        name=name,
        classes=training.dataset.classes,
        contract=training.dataset.contract,
        dataset=manifest.dataset,
        license=" and ".join(dict.fromkeys(licenses)),
        latents_digest=manifest.digest,
        recipe=training.recipe,
        num_epochs=training.settings.num_epochs,
        num_steps=trainer.learner.step,
        parameters=trainer.learner.model.num_parameters(),
    )


def export(trainer: Trainer, folder: Path, metrics: Path, *, name: str, run_id: str) -> None:
    """Write averaged weights and metadata to `folder`, train.json and train.csv to `metrics`."""
    with trainer.learner.averaged() as model:
        save_model(folder, model, model_metadata(trainer, name), run_id)
    metrics.mkdir(exist_ok=True)
    write_json(metrics / "train.json", train_scores(trainer))
    _write_curve(metrics / "train.csv", trainer.progress.curve)


def _write_curve(path: Path, curve: list[dict[str, float]]) -> None:
    text = io.StringIO()
    writer = csv.DictWriter(text, curve[0], lineterminator="\n")
    writer.writeheader()
    writer.writerows(curve)
    with atomic(path) as file:
        file.write(text.getvalue().encode())
