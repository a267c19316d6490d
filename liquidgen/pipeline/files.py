"""Loading, saving and publishing: what LiquidGenPipeline does beside drawing."""

from functools import partial
from pathlib import Path
from typing import Self
from weakref import WeakKeyDictionary

import torch
from diffusers import (
    AutoencoderDC,
    AutoencoderKL,
    AutoencoderTiny,
    DiffusionPipeline,
    SchedulerMixin,
)
from diffusers.configuration_utils import FrozenDict
from huggingface_hub import ModelCard

from liquidgen.flow.solvers import scheduler_of
from liquidgen.generator.model_folder import MODEL, ModelMetadata, load_model
from liquidgen.latents.autoencoder import load_autoencoder
from liquidgen.models.liquidnet import LiquidNet
from liquidgen.pipeline.arguments import DTYPES, VARIANTS, one_of
from liquidgen.pipeline.card import model_card, read_scores
from liquidgen.pipeline.hub_io import downloaded, published
from liquidgen.pipeline.saved import (
    REMEDY,
    Weights,
    check_complete,
    check_same_model,
    check_saved,
    only_variant,
    weights_name,
    write_loader,
)
from liquidgen.utils.errors import UserError, reason_of

SOLVER = "dpm"  # of a model folder; the default of `sample.solver` in params.yaml
# facts and scores by network, for LiquidGenPipeline(**pipe.components), which brings none
_FACTS: WeakKeyDictionary[LiquidNet, tuple[dict, dict | None]] = WeakKeyDictionary()


class PipelineFiles(DiffusionPipeline):
    """The files of a pipeline: those of a model folder, a saved pipeline, or a repository."""

    _metadata: ModelMetadata

    def __init__(
        self,
        liquidnet: LiquidNet,
        # the classes of `KINDS`, each by its name, which diffusers compares
        autoencoder: AutoencoderDC | AutoencoderTiny | AutoencoderKL,
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
            facts: `ModelMetadata` as a dictionary: classes, latent contract, training; None: that
                of the pipeline which the network is from.
            scores: Scores of the stage evaluate for these weights; None: not evaluated.
            weights: Digests of the weights files, of a saved pipeline.

        Raises:
            UserError: `facts` is missing.
        """
        super().__init__()
        if facts is None and liquidnet in _FACTS:
            facts, scores = _FACTS[liquidnet]
        if facts is None:
            raise UserError("facts: missing; load a pipeline by LiquidGenPipeline.from_pretrained")
        for module in (liquidnet, autoencoder):  # as in the stage sample, for bit-equal images
            module.to(memory_format=torch.channels_last)
        self.register_modules(liquidnet=liquidnet, autoencoder=autoencoder, scheduler=scheduler)
        self.register_to_config(facts=_plain(facts), scores=_plain(scores), weights=_plain(weights))
        self._metadata = ModelMetadata.model_validate(_plain(facts))
        _FACTS[liquidnet] = (facts, scores)
        self._rounded: torch.dtype | None = None

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | Path,
        *,
        dtype: torch.dtype | None = None,
        torch_dtype: torch.dtype | None = None,
        variant: str | None = None,
        revision: str | None = None,
        token: str | None = None,
    ) -> Self:
        """Load a model folder of the stage train, a saved pipeline, or a repository on the hub.

        Only safetensors and JSON files are read; code of a repository is never run.

        Args:
            pretrained_model_name_or_path: A folder, or `owner/name` on the hub.
            dtype: Type of the weights: torch.float32, torch.bfloat16 or torch.float16; None: fp32.
            torch_dtype: The same, by its earlier name in diffusers.
            variant: Weights that were saved as a variant, fp16 or bf16.
            revision: Branch, tag or commit on the hub.
            token: Token for the hub; None: HF_TOKEN, or that of `hf auth login`.

        Raises:
            UserError: Nothing is there, it is damaged, or it is no LiquidGen model.
        """
        name = "dtype" if torch_dtype is None else "torch_dtype"
        dtype = dtype if torch_dtype is None else torch_dtype
        one_of(name, dtype, (None, *DTYPES))
        one_of("variant", variant, (None, *VARIANTS))
        folder = Path(pretrained_model_name_or_path)
        if not folder.is_dir():
            repo_id = str(pretrained_model_name_or_path)
            folder = downloaded(repo_id, weights_name(variant), revision, token)
        if (folder / MODEL).is_file() and variant is None:
            pipe = cls._from_model_folder(folder)
        else:
            pipe = cls._from_saved(folder, variant)
        if dtype not in (None, torch.float32):
            for network in (pipe.liquidnet, pipe.autoencoder):
                torch.nn.Module.to(network, dtype)  # the method of diffusers warns of nothing
            pipe._rounded = dtype
        return pipe

    @classmethod
    def _from_saved(cls, folder: Path, variant: str | None) -> Self:
        with only_variant(folder, variant) as shown:
            check_saved(shown, cls.__name__, variant)
            try:
                # low_cpu_mem_usage would need accelerate
                pipe = super().from_pretrained(shown, use_safetensors=True, low_cpu_mem_usage=False)
            except MemoryError:
                raise
            except Exception as error:  # diffusers raises anything for files that do not fit
                reason = reason_of(error, lines=2)
                raise UserError(f"{shown}: cannot be loaded ({reason}); {REMEDY}") from None
            check_complete(shown, {"liquidnet": pipe.liquidnet, "autoencoder": pipe.autoencoder})
        pipe.register_to_config(_name_or_path=str(folder))
        pipe._rounded = VARIANTS[variant] if variant else None
        return pipe

    @classmethod
    def _from_model_folder(cls, folder: Path) -> Self:
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

    def to(self, *args: object, **kwargs: object) -> Self:
        """Move the pipeline to a device, or its weights to a dtype, as in diffusers."""
        super().to(*args, **kwargs)
        if self.liquidnet.dtype != torch.float32:
            self._rounded = self.liquidnet.dtype
        return self

    def save_pretrained(self, save_directory: str | Path, *, variant: str | None = None) -> None:
        """Write the whole pipeline as safetensors and JSON, with its model card as README.md.

        Args:
            save_directory: Folder to write; a variant can be added to a pipeline saved before.
            variant: fp16 or bf16: weights of a pipeline in that dtype, in files of that name.

        Raises:
            UserError: The weights are rounded, and no variant of their dtype was asked for; or
                weights of another model would lie beside these.
        """
        one_of("variant", variant, (None, *VARIANTS))
        self._check_rounding(variant)
        folder = Path(save_directory)
        present = check_same_model(folder, variant, self._metadata)
        for config in (self, self.liquidnet, self.autoencoder):  # without paths of this machine
            config.register_to_config(_name_or_path=self._metadata.name)
        super().save_pretrained(save_directory, safe_serialization=True, variant=variant)
        # digests of other variants stay, as their files do here or where the pipeline is from
        own = Weights.model_validate(_plain(self.config.weights) or {})
        weights = own.root | present | Weights.of(folder, variant).root
        self.register_to_config(weights=weights)
        self.save_config(save_directory)
        write_loader(folder)
        self.model_card().save(folder / "README.md")

    @property
    def name(self) -> str:
        """Name of the model, which is that of its run."""
        return self._metadata.name

    def model_card(self) -> ModelCard:
        """Return the model card: training, scores and license."""
        return model_card(self._metadata, self.liquidnet.config.block, self.config.scores)

    def _check_rounding(self, variant: str | None) -> None:
        """Refuse to save rounded weights as if they were the trained ones."""
        kinds = {self.liquidnet.dtype, self.autoencoder.dtype, self._rounded} - {None}
        rounded = sorted(map(str, kinds - {torch.float32}))
        if variant is None and rounded:
            raise UserError(
                f"pipeline: its weights were rounded to {' and '.join(rounded)}; load it again "
                "without dtype, or name a variant (fp16, bf16) to save these"
            )
        if variant is not None and {VARIANTS[variant]} != kinds:
            dtype = VARIANTS[variant]
            raise UserError(f"variant: {variant}, but the weights are not; use pipe.to({dtype})")

    def push_to_hub(
        self,
        repo_id: str,
        *,
        private: bool | None = None,
        token: str | None = None,
        variant: str | None = None,
        commit_message: str = "Upload LiquidGenPipeline",
    ) -> str:
        """Save to a repository on the hub, which is created if it does not exist.

        Args:
            repo_id: `owner/name`.
            private: Whether a new repository is private; None: the owner's default.
            token: Token with write access; None: HF_TOKEN, or that of `hf auth login`.
            variant: As for `save_pretrained`.
            commit_message: Message of the commit.

        Returns:
            URL of the commit.

        Raises:
            UserError: The name is not valid, the hub refuses the upload (such as without a token),
                or it cannot be reached.
        """
        save = partial(self.save_pretrained, variant=variant)
        return published(save, repo_id, private, token, commit_message)


def _plain(value: object) -> object:
    """Convert the containers in which diffusers keeps a config to dictionaries and lists."""
    if isinstance(value, dict | FrozenDict):
        return {key: _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return value
