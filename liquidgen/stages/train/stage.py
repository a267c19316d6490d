"""What the stage train does, recorded: latents to a model."""

from collections.abc import Callable, Sequence
from pathlib import Path

from PIL.Image import Image

from liquidgen.compute.distributed import init_distributed
from liquidgen.config.params import Params
from liquidgen.latents.weights import weights_digest
from liquidgen.stages.train.callbacks import CallbackLogger, NullLogger, TrainingLogger
from liquidgen.stages.train.export import export, model_metadata, train_scores
from liquidgen.stages.train.preview import preview_grid
from liquidgen.stages.train.run_state import prepare_training
from liquidgen.stages.train.trainer import Trainer
from liquidgen.tracking import open_run


def main(params: Params, root: Path, callbacks: Sequence[TrainingLogger] = ()) -> str | None:
    """Fill data/models/<run> and write the training's scores; callbacks see points and pictures."""

    def preview(trainer: Trainer, check: Callable[[], None]) -> Image:
        metadata = model_metadata(trainer, params.run_name)
        return preview_grid(trainer.learner, metadata, params.sample, check)

    with init_distributed(params.machine.device) as (world, device):
        training = prepare_training(
            params.latents_folder,
            root / "work/train",
            model=params.model,
            block=params.selectors.block,
            block_settings=params.block,
            settings=params.train,
        )
        contract = training.dataset.contract  # another autoencoder could not decode its latents
        contract.check_autoencoder(weights_digest(contract.autoencoder))
        if not world.is_main:
            return Trainer(training, device, world).run(NullLogger())
        with training.locked():
            trainer = Trainer(training, device, world)
            with open_run(
                root,
                params.tracking.experiment,
                "train",
                name=params.run_name,
                params=params.flat(),
                resume=training.run_id(),
                journal=training.tracking_folder / "metrics.jsonl",
                earlier=sorted(training.folder.glob("**/metrics.jsonl")),
                start_step=trainer.learner.step,
            ) as run:
                training.save_run_id(run.run_id)
                latents, digest = params.latents_folder, training.dataset.manifest.digest
                run.log_dataset(latents.name, digest[:16], str(latents))
                trainer.run(CallbackLogger(run, callbacks), preview)
                run.log_metrics(train_scores(trainer), trainer.learner.step)
                export(
                    trainer,
                    params.model_folder,
                    params.metrics_folder,
                    name=params.run_name,
                    run_id=run.run_id,
                )
    return trainer.summary(params.model_folder)
