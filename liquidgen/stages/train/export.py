"""What a finished training leaves: the model's folder, its scores and its loss curve."""

import csv
import io
from pathlib import Path

from liquidgen.models.model_folder import ModelMetadata, save_model
from liquidgen.stages.train.run_state import COSMETIC
from liquidgen.stages.train.trainer import Trainer
from liquidgen.utils.files import atomic, write_json


def train_scores(trainer: Trainer) -> dict[str, float]:
    """Last losses, rates and sizes of a training."""
    progress, learner = trainer.progress, trainer.learner
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


def export(trainer: Trainer, folder: Path, metrics: Path, *, name: str, run_id: str) -> None:
    """Write averaged weights and facts to `folder`, train.json and train.csv to `metrics`."""
    training = trainer.training
    facts = ModelMetadata(
        name=name,
        classes=training.dataset.classes,
        contract=training.dataset.contract,
        dataset=training.dataset.manifest.dataset,
        license=training.dataset.manifest.license,
        latents_digest=training.dataset.manifest.digest,
        recipe=training.settings.model_dump(exclude=COSMETIC),
        num_epochs=training.settings.num_epochs,
        num_steps=trainer.learner.step,
        parameters=trainer.learner.model.num_parameters(),
    )
    with trainer.learner.averaged() as model:
        save_model(folder, model, facts, run_id)
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
