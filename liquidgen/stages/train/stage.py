"""Stage train: train a model on the latents, and record the training."""

import logging
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path

from PIL.Image import Image
from tqdm.auto import tqdm

from liquidgen.cluster.connection import cluster_of
from liquidgen.compute.distributed import init_distributed
from liquidgen.config.changes import changes_since_commit
from liquidgen.config.image_counts import too_few_images
from liquidgen.config.params import Params
from liquidgen.generator.pretrained import load_pretrained
from liquidgen.latents.weights import weights_digest
from liquidgen.stages.train.callbacks import CallbackLogger, TrainingLogger
from liquidgen.stages.train.export import export, model_metadata, train_scores
from liquidgen.stages.train.length import LengthReport
from liquidgen.stages.train.preview import preview_grid
from liquidgen.stages.train.run_state import Training, prepare_training
from liquidgen.stages.train.trainer import Trainer
from liquidgen.tracking import open_run

logger = logging.getLogger(__name__)


def main(params: Params, root: Path, callbacks: Sequence[TrainingLogger] = ()) -> str | None:
    """Fill data/models/<run> and write the metrics of the training, on a cluster if there is one.

    Args:
        params: All settings.
        root: Root of the checkout.
        callbacks: Loggers that also receive the metrics and previews.

    Returns:
        The closing line; None on ranks > 0.
    """
    with cluster_of(params.machine) as cluster:
        if cluster is None:
            return train(params, root, callbacks)
        from liquidgen.cluster.training import train_on_cluster

        if callbacks:
            logger.warning("machine.engine: ray: callbacks are not called in its processes")
        return train_on_cluster(cluster, train, params, root)


def train(params: Params, root: Path, callbacks: Sequence[TrainingLogger] = ()) -> str | None:
    """Train in this process, or in all processes of its world; see `main`."""

    def preview(trainer: Trainer, check: Callable[[], None]) -> Image:
        metadata = model_metadata(trainer, params.run_name)
        return preview_grid(trainer.learner, metadata, params.sample, check)

    with init_distributed(params.machine.device) as (world, device):
        address = params.train.init_from
        # rank 0 sends the weights to the others
        pretrained = load_pretrained(address) if address and world.is_main else None
        training = prepare_training(
            params.latents_folder,
            root / "work/train",
            model=params.model,
            block=params.selectors.block,
            block_settings=params.block,
            settings=params.train,
            pretrained=pretrained,
            quiet=not world.is_main,
        )
        if world.is_main:
            _warn_of_evaluation(params, training)
            contract = training.dataset.contract  # another autoencoder could not decode its latents
            contract.check_autoencoder(weights_digest(contract.autoencoder))
        # rank 0 locks the state folder and chooses the run for all ranks
        with training.locked() if world.is_main else nullcontext():
            world.barrier()  # the state folder has its name
            trainer = Trainer(training, device, world)
            shared = min(trainer.learner.step, training.stable_steps)
            changes = changes_since_commit(params)
            with open_run(
                root,
                params.tracking.experiment,
                "train",
                name=changes.name,
                params=params.flat(),
                changes=changes,
                resume=training.run_id() if world.is_main else None,
                journal=training.ending_folder / "metrics.jsonl",
                earlier=training.earlier_journals(shared),
                start_step=shared,
                last_step=training.last_step,
                enabled=world.is_main,
            ) as run:
                if world.is_main:
                    training.save_run_id(run.run_id)
                    if pretrained and trainer.learner.step == 0:
                        tqdm.write(pretrained.summary(training.dataset.classes))
                    if 0 < trainer.learner.step < training.last_step:
                        tqdm.write(f"train: continues after step {trainer.learner.step:,}")
                manifest = training.dataset.manifest
                latents = params.latents_folder
                run.log_dataset(latents.name, manifest.digest[:16], str(latents))
                length = LengthReport(training, drawn=params.dataset.kind == "procedural")
                trainer.run(CallbackLogger(run, [length, *callbacks]), preview)
                if not world.is_main:
                    return None
                run.log_metrics(train_scores(trainer), trainer.learner.step)
                export(
                    trainer,
                    params.model_folder,
                    params.metrics_folder,
                    name=params.run_name,
                    run_id=run.run_id,
                )
    return trainer.summary(params.model_folder)


def _warn_of_evaluation(params: Params, training: Training) -> None:
    """Warn before a long training if the stage evaluate will refuse what comes of it."""
    refusal = too_few_images(
        params.evaluate,
        samples=params.sample.num_images,
        train=training.dataset.manifest.num_originals("train"),
        holdout=len(training.holdout),
    )
    if refusal:
        logger.warning("after the training the stage evaluate will refuse it: %s", refusal)
