"""LiquidGenPipeline: a trained model as a diffusers pipeline that draws, saves and publishes."""

import copy
from collections.abc import Sequence
from pathlib import Path

import torch
from diffusers import DiffusionPipeline, ImagePipelineOutput, ModelMixin, SchedulerMixin
from diffusers.configuration_utils import FrozenDict

from liquidgen.compute.precision import autoencoder_dtype
from liquidgen.figures.grid import to_images
from liquidgen.flow.solvers import scheduler_of, set_timesteps
from liquidgen.generator.draw import Seed, draw_latents, usable_guidance
from liquidgen.generator.model_folder import MODEL, ModelMetadata, load_model
from liquidgen.latents.autoencoder import Autoencoder, load_autoencoder
from liquidgen.models.liquidnet import LiquidNet
from liquidgen.pipeline.arguments import (
    Class,
    at_least_one,
    resolve_labels,
    resolve_seeds,
    whole,
)
from liquidgen.pipeline.card import model_card, read_scores
from liquidgen.pipeline.hub_io import downloaded, published
from liquidgen.pipeline.saved import REMEDY, Weights, check_complete, check_saved
from liquidgen.utils.errors import UserError, reason_of

# defaults of the section `sample` in params.yaml (a test compares them)
SOLVER = "euler"
NUM_STEPS = 50
GUIDANCE_SCALE = 1.5
BATCH_SIZE = 64  # images per call of the network


class LiquidGenPipeline(DiffusionPipeline):
    """A LiquidNet, the autoencoder of its latents and a flow-matching scheduler.

        pipe = LiquidGenPipeline.from_pretrained("data/models/<run>")
        pipe("hills", num_images=4, seed=1).images

    The names of the components and of `facts`, `scores` and `weights` are keys in model_index.json
    of saved pipelines, as is the module `liquidgen.models.liquidnet`: a renamed one would not load
    them.

    Attributes:
        liquidnet: The network, with EMA weights.
        autoencoder: Of diffusers; the latent contract in `facts` says how it is used.
        scheduler: Any flow-matching scheduler; the argument `solver` of a call selects another.
    """

    def __init__(
        self,
        liquidnet: LiquidNet,
        autoencoder: ModelMixin,
        scheduler: SchedulerMixin,
        facts: dict | None = None,
        scores: dict | None = None,
        weights: dict | None = None,
    ) -> None:
        """Register the components and the metadata; `from_pretrained` is how to load a pipeline.

        Args:
            liquidnet: The network, with EMA weights.
            autoencoder: The autoencoder of its latents.
            scheduler: A flow-matching scheduler.
            facts: `ModelMetadata` as a dictionary: classes, latent contract, training.
            scores: Scores of the stage evaluate for these weights; None: not evaluated.
            weights: Digests of the weights files, of a saved pipeline.

        Raises:
            UserError: `facts` is missing.
        """
        super().__init__()
        if facts is None:
            raise UserError("facts: missing; load a pipeline by LiquidGenPipeline.from_pretrained")
        for module in (liquidnet, autoencoder):  # as in the stage sample, for bit-equal images
            module.to(memory_format=torch.channels_last)
        self.register_modules(liquidnet=liquidnet, autoencoder=autoencoder, scheduler=scheduler)
        self.register_to_config(facts=_plain(facts), scores=_plain(scores), weights=_plain(weights))
        self._metadata = ModelMetadata.model_validate(_plain(facts))

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | Path,
        *,
        revision: str | None = None,
        token: str | None = None,
    ) -> "LiquidGenPipeline":
        """Load a model folder of the stage train, a saved pipeline, or a repository on the hub.

        Only safetensors and JSON files are read; code of a repository is never run.

        Args:
            pretrained_model_name_or_path: A folder, or `owner/name` on the hub.
            revision: Branch, tag or commit on the hub.
            token: Token for the hub; None: HF_TOKEN, or that of `hf auth login`.

        Raises:
            UserError: Nothing is there, it is damaged, or it is no LiquidGen model.
        """
        folder = Path(pretrained_model_name_or_path)
        if not folder.is_dir():
            folder = downloaded(str(pretrained_model_name_or_path), revision, token)
        if (folder / MODEL).is_file():
            return cls._from_model_folder(folder)
        check_saved(folder, cls.__name__)
        try:
            # low_cpu_mem_usage would need accelerate
            pipe = super().from_pretrained(folder, use_safetensors=True, low_cpu_mem_usage=False)
        except MemoryError:
            raise
        except Exception as error:  # diffusers raises anything for files that do not fit
            reason = reason_of(error, lines=2)
            raise UserError(f"{folder}: cannot be loaded ({reason}); {REMEDY}") from None
        check_complete(folder, {"liquidnet": pipe.liquidnet, "autoencoder": pipe.autoencoder})
        return pipe

    @classmethod
    def _from_model_folder(cls, folder: Path) -> "LiquidGenPipeline":
        liquidnet, metadata = load_model(folder)
        autoencoder = load_autoencoder(metadata.contract.autoencoder, "cpu")
        metadata.contract.check_autoencoder(autoencoder.digest)
        facts = metadata.model_dump(mode="json", exclude={"weights"})
        facts["contract"]["autoencoder"]["path"] = None  # it is a component from now on
        return cls(
            liquidnet,
            autoencoder.model,
            scheduler_of(SOLVER),
            facts=facts,
            scores=read_scores(folder, metadata.weights.sha256),
        )

    @property
    def classes(self) -> tuple[str, ...] | None:
        """Names of the classes in the order of their ids; None for an unconditional model."""
        return self._metadata.classes

    @torch.inference_mode()
    def __call__(
        self,
        classes: Class | Sequence[Class] | None = None,
        num_images: int | None = None,
        *,
        seed: int | Sequence[int | Seed] = 0,
        guidance_scale: float | None = None,
        num_steps: int = NUM_STEPS,
        solver: str | None = None,
        batch_size: int = BATCH_SIZE,
    ) -> ImagePipelineOutput:
        """Draw images; image i has class i modulo the number of classes.

        With the same classes, seed and settings the images are those of the stage sample.

        Args:
            classes: Names or ids of classes; None: all classes of the model. Where a class has the
                number as its name, 3 and "3" are that class, and else the id.
            num_images: Number of images; None: one per class.
            seed: Image i is drawn from (seed, i); or one seed per image: s for (s, 0), or (s, i).
            guidance_scale: 1 is off; None: 1.5, or 1 for a model trained without null labels.
            num_steps: Steps of the solver.
            solver: Name of a solver; None: the component `scheduler`.
            batch_size: Images per call of the network.

        Raises:
            UserError: A class or solver is unknown, a number is out of range, or the model was
                trained without the null labels that guidance needs.
        """
        # validate everything before the first step
        labels = self.image_labels(classes, num_images)
        seeds = resolve_seeds(seed, len(labels))
        if guidance_scale is None:
            guidance_scale = GUIDANCE_SCALE if self._metadata.label_dropout else 1.0
        num_steps, batch_size = whole("num_steps", num_steps), whole("batch_size", batch_size)
        at_least_one("num_steps", num_steps)
        at_least_one("batch_size", batch_size)
        guidance_scale = at_least_one("guidance_scale", guidance_scale)
        scheduler = scheduler_of(solver) if solver else self.scheduler
        set_timesteps(scheduler, num_steps, self.device)
        autoencoder = self._working_autoencoder()

        images = []
        starts = range(0, len(labels), batch_size)
        with self.progress_bar(total=len(scheduler.timesteps) * len(starts)) as bar:
            for start in starts:
                batch = slice(start, start + batch_size)
                latents = draw_latents(
                    self.liquidnet,
                    self._metadata,
                    labels[batch],
                    seeds[batch],
                    scheduler=scheduler,
                    num_steps=num_steps,
                    guidance_scale=usable_guidance(self._metadata, guidance_scale),
                    after_step=bar.update,
                )
                images += to_images(autoencoder.decode(latents))
        return ImagePipelineOutput(images=images)

    def _working_autoencoder(self) -> Autoencoder:
        """Return the autoencoder in the precision of its settings, as in the stage sample."""
        if self.liquidnet.dtype != torch.float32:
            raise UserError(f"pipeline: in {self.liquidnet.dtype}; use `.to(torch.float32)`")
        contract = self._metadata.contract
        dtype = autoencoder_dtype(contract.autoencoder.precision, self.device)
        model = self.autoencoder
        if model.dtype != dtype:  # a copy: rounded weights must not be saved
            model = copy.deepcopy(model).to(dtype)
        return Autoencoder(model, contract.autoencoder, contract.autoencoder_digest)

    def image_labels(
        self, classes: Class | Sequence[Class] | None = None, num_images: int | None = None
    ) -> list[int]:
        """Return the label of each image that a call with these arguments draws.

        Raises:
            UserError: A class is unknown, or there are no images to draw.
        """
        return resolve_labels(classes, num_images, self.classes, self.liquidnet.null_label)

    def save_pretrained(self, save_directory: str | Path) -> None:
        """Write the whole pipeline as safetensors and JSON, with its model card as README.md."""
        for config in (self, self.liquidnet, self.autoencoder):  # without paths of this machine
            config.register_to_config(_name_or_path=self._metadata.name)
        super().save_pretrained(save_directory, safe_serialization=True)
        self.register_to_config(weights=Weights.of(Path(save_directory)).model_dump())
        self.save_config(save_directory)
        card = model_card(self._metadata, self.liquidnet.config.block, self.config.scores)
        card.save(Path(save_directory) / "README.md")

    def push_to_hub(
        self,
        repo_id: str,
        *,
        private: bool | None = None,
        token: str | None = None,
        commit_message: str = "Upload LiquidGenPipeline",
    ) -> str:
        """Save to a repository on the hub, which is created if it does not exist.

        Args:
            repo_id: `owner/name`.
            private: Whether a new repository is private; None: the owner's default.
            token: Token with write access; None: HF_TOKEN, or that of `hf auth login`.
            commit_message: Message of the commit.

        Returns:
            URL of the commit.

        Raises:
            UserError: The name is not valid, the hub refuses the upload (such as without a token),
                or it cannot be reached.
        """
        return published(self.save_pretrained, repo_id, private, token, commit_message)


def _plain(value: object) -> object:
    """Convert the containers in which diffusers keeps a config to dictionaries and lists."""
    if isinstance(value, dict | FrozenDict):
        return {key: _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return value
