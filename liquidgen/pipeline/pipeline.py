"""LiquidGenPipeline: a trained model as a pipeline of diffusers, to draw with, save and publish."""

import copy
from collections.abc import Sequence
from pathlib import Path

import torch
from diffusers import DiffusionPipeline, ImagePipelineOutput, ModelMixin, SchedulerMixin
from diffusers.configuration_utils import FrozenDict

from liquidgen.compute.precision import autoencoder_dtype
from liquidgen.flow.draw import Seed, draw, usable_guidance
from liquidgen.flow.solvers import scheduler_of, set_timesteps
from liquidgen.latents.autoencoder import Autoencoder, load_autoencoder
from liquidgen.models.liquidnet import LiquidNet
from liquidgen.models.model_folder import MODEL, ModelMetadata, load_model
from liquidgen.pipeline.arguments import Class, check_counts, labels_of, seeds_of
from liquidgen.pipeline.card import model_card, read_scores
from liquidgen.pipeline.hub_io import check_index, downloaded, published
from liquidgen.utils.errors import UserError

SOLVER, NUM_STEPS, GUIDANCE_SCALE = "euler", 50, 1.5  # what params.yaml begins with
BATCH_SIZE = 64  # images drawn at once


class LiquidGenPipeline(DiffusionPipeline):
    """LiquidNet, the autoencoder of its latents and a flow-matching scheduler.

    | component, config | is |
    |---|---|
    | liquidnet | the network with averaged weights |
    | autoencoder | of diffusers; the latent contract in `facts` says how it is used |
    | scheduler | any flow-matching scheduler; `solver` of a call takes another one by name |
    | facts | `ModelMetadata`: classes, latent contract, training |
    | scores | of the stage evaluate for these weights, or None |

        pipe = LiquidGenPipeline.from_pretrained("data/models/<run>")
        pipe("hills", num_images=4, seed=1).images
    """

    def __init__(
        self,
        liquidnet: LiquidNet,
        autoencoder: ModelMixin,
        scheduler: SchedulerMixin,
        facts: dict | None = None,
        scores: dict | None = None,
    ) -> None:
        super().__init__()
        if facts is None:
            raise UserError("facts: missing; load a pipeline by LiquidGenPipeline.from_pretrained")
        for part in (liquidnet, autoencoder):  # as in the stage sample: the same bits
            part.to(memory_format=torch.channels_last)
        self.register_modules(liquidnet=liquidnet, autoencoder=autoencoder, scheduler=scheduler)
        self.register_to_config(facts=_plain(facts), scores=_plain(scores))
        self._facts = ModelMetadata.model_validate(_plain(facts))

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | Path,
        *,
        revision: str | None = None,
        token: str | None = None,
    ) -> "LiquidGenPipeline":
        """The pipeline of a model folder of the stage train, a saved pipeline, or a hub repository.

        Only safetensors and JSON are read, and no code of a repository.

        Raises UserError for what is missing, damaged, or no LiquidGen model.
        """
        folder = Path(pretrained_model_name_or_path)
        if not folder.is_dir():
            folder = downloaded(str(pretrained_model_name_or_path), revision, token)
        if (folder / MODEL).is_file():
            return cls._of_model_folder(folder)
        check_index(folder, cls.__name__)
        # accelerate is not needed
        return super().from_pretrained(folder, use_safetensors=True, low_cpu_mem_usage=False)

    @classmethod
    def _of_model_folder(cls, folder: Path) -> "LiquidGenPipeline":
        liquidnet, saved = load_model(folder)
        autoencoder = load_autoencoder(saved.contract.autoencoder, "cpu")
        saved.contract.check_autoencoder(autoencoder.digest)
        facts = saved.model_dump(mode="json", exclude={"weights"})
        facts["contract"]["autoencoder"]["path"] = None  # it is a component from now on
        return cls(
            liquidnet,
            autoencoder.model,
            scheduler_of(SOLVER),
            facts=facts,
            scores=read_scores(folder, saved.weights.sha256),
        )

    @property
    def classes(self) -> tuple[str, ...] | None:
        """Names of the classes in the order of their ids; None: the model has none."""
        return self._facts.classes

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
        """Draw images, image i of class i modulo the number of classes.

        | argument | is |
        |---|---|
        | classes | names or ids; None: all classes of the model |
        | num_images | None: one a class |
        | seed | image i is drawn from (seed, i), or one seed an image: s for (s, 0), or (s, i) |
        | guidance_scale | 1 is off; None: 1.5, or 1 where the model knows no null label |
        | solver | a name; None: the component `scheduler` |

        With the same classes, seed and settings the images are those of the stage sample.

        Raises UserError for unknown classes or solvers, for numbers out of range, and for guidance
        that cannot be had.
        """
        labels = self.request(classes, num_images)
        seeds = seeds_of(seed, len(labels))
        if guidance_scale is None:
            guidance_scale = GUIDANCE_SCALE if self._facts.label_dropout else 1.0
        check_counts(num_steps=num_steps, batch_size=batch_size, guidance_scale=guidance_scale)
        scheduler = scheduler_of(solver) if solver else self.scheduler
        set_timesteps(scheduler, num_steps, self.device)
        autoencoder = self._pixels_of_latents()
        images, starts = [], range(0, len(labels), batch_size)
        with self.progress_bar(total=len(scheduler.timesteps) * len(starts)) as bar:
            for start in starts:
                chosen = slice(start, start + batch_size)
                images += draw(
                    self.liquidnet,
                    autoencoder,
                    self._facts,
                    labels[chosen],
                    seeds[chosen],
                    scheduler=scheduler,
                    num_steps=num_steps,
                    guidance_scale=usable_guidance(self._facts, guidance_scale),
                    after_step=bar.update,
                )
        return ImagePipelineOutput(images=images)

    def _pixels_of_latents(self) -> Autoencoder:
        contract = self._facts.contract
        if self.liquidnet.dtype != torch.float32:
            raise UserError(f"pipeline: in {self.liquidnet.dtype}; use `.to(torch.float32)`")
        # as in the stage sample
        dtype = autoencoder_dtype(contract.autoencoder.precision, self.device)
        model = self.autoencoder
        if model.dtype != dtype:  # a copy, for rounded weights must not be saved
            model = copy.deepcopy(model).to(dtype)
        return Autoencoder(model, contract.autoencoder, contract.autoencoder_digest)

    def request(
        self, classes: Class | Sequence[Class] | None = None, num_images: int | None = None
    ) -> list[int]:
        """The label of each image that a call with these arguments draws.

        Raises UserError for unknown classes, and for no images at all.
        """
        return labels_of(classes, num_images, self.classes, self.liquidnet.null_label)

    def save_pretrained(self, save_directory: str | Path) -> None:
        """Write the whole pipeline as safetensors and JSON, with its model card as README.md."""
        for part in (self, self.liquidnet, self.autoencoder):  # not the folders of this machine
            part.register_to_config(_name_or_path=self._facts.name)
        super().save_pretrained(save_directory, safe_serialization=True)
        card = model_card(self._facts, self.config.scores)
        card.save(Path(save_directory) / "README.md")

    def push_to_hub(
        self,
        repo_id: str,
        *,
        private: bool | None = None,
        token: str | None = None,
        commit_message: str = "Upload LiquidGenPipeline",
    ) -> str:
        """Save into a repository of the hub, which is made if need be; returns the commit's URL.

        Raises UserError for a name that cannot be one, where the hub does not take it, such as
        without a token, and where it cannot be reached.
        """
        return published(self.save_pretrained, repo_id, private, token, commit_message)


def _plain(value: object) -> object:
    """JSON's own types of what diffusers keeps of a config."""
    if isinstance(value, dict | FrozenDict):
        return {key: _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return value
