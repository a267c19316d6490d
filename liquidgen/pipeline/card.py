"""Model card of a saved pipeline: training, scores and license."""

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCard, ModelCardData
from pydantic import BaseModel, ConfigDict

from liquidgen.generator.model_folder import ModelMetadata
from liquidgen.utils.text import markdown, python_literal

log = logging.getLogger(__name__)
SCORES = Path("metrics/evaluate.json")
# identifiers that the hub knows; any other license is given by its name
HUB_LICENSES = {"apache-2.0", "cc-by-4.0", "cc-by-nc-sa-4.0", "cc-by-sa-4.0", "cc0-1.0", "mit"}
ATTENTION_FREE = {"liquid"}  # block types; of others the card claims nothing
USE = """```python
from liquidgen import LiquidGenPipeline

pipe = LiquidGenPipeline.from_pretrained("{source}")
pipe({example}num_images=4, seed=0).images
```"""


class Protocol(BaseModel):
    """What the card shows of the conditions of the scores."""

    model_config = ConfigDict(extra="allow")

    num_compared: int
    num_reference: int
    feature_network: str
    sampling: dict[str, Any]


class PublishedScores(BaseModel):
    """Content of metrics/evaluate.json: scores by name, and their protocol.

    Evaluations of earlier versions have no intervals and no quotes.
    """

    model_config = ConfigDict(extra="allow")

    intervals: dict[str, tuple[float, float]] = {}
    quotes: list[str] = []
    protocol: Protocol


def read_scores(model_folder: Path, weights_digest: str) -> dict | None:
    """Read the scores of the checkout that a model folder is in.

    Args:
        model_folder: Such as `<checkout>/data/models/<run>`.
        weights_digest: SHA-256 digest of the model's weights.

    Returns:
        Content of metrics/evaluate.json; None if it does not exist, is of other weights, or is
        damaged, which is no reason not to draw.
    """
    parents = model_folder.resolve().parents
    path = parents[2] / SCORES if len(parents) > 2 else None
    if path is None or not path.is_file():
        return None
    try:
        scores = PublishedScores.model_validate(json.loads(path.read_bytes()))
    except (ValueError, RecursionError):
        log.warning("%s: damaged, the scores are left out; run `dvc repro -s -f evaluate`", path)
        return None
    evaluated = scores.protocol.sampling.get("weights_digest")
    # shortened in the file, whose values `dvc metrics diff` shows side by side
    same = isinstance(evaluated, str) and evaluated and weights_digest.startswith(evaluated)
    return scores.model_dump() if same else None


def model_card(metadata: ModelMetadata, block: str, scores: dict | None) -> ModelCard:
    """Return the card of a model with a block type, with the metadata that the hub reads."""
    known = metadata.license.lower() if metadata.license.lower() in HUB_LICENSES else None
    attention_free = ["attention-free"] if block in ATTENTION_FREE else []
    data = ModelCardData(
        library_name="diffusers",
        pipeline_tag="unconditional-image-generation",
        tags=["liquidgen", "flow-matching", *attention_free],
        license=known or "other",
        license_name=None if known else "license-of-the-training-images",
    )
    sections = [
        f"---\n{data.to_yaml()}\n---",
        f"# {markdown(metadata.name)}",
        _introduction(metadata, block),
        "## Use",
        _use(metadata),
        "## Training",
        _table(_training(metadata)),
        "## Scores",
        _scores(scores),
        "## License",
        "The model and its samples carry the license of the training images: "
        f"{markdown(metadata.license)}.",
    ]
    return ModelCard("\n\n".join(sections) + "\n")


def _introduction(metadata: ModelMetadata, block: str) -> str:
    classes = metadata.classes
    network = "without attention" if block in ATTENTION_FREE else f"of {markdown(block)} blocks"
    kind = "unconditional" if classes is None else f"class-conditional ({len(classes)})"
    return (
        f"A LiquidGen model: a {kind} image generator of {metadata.contract.image_size} px "
        f"{network}, {metadata.parameters:,} parameters, trained by flow matching in the latent "
        "space of an autoencoder, which is included."
    )


def _use(metadata: ModelMetadata) -> str:
    classes = metadata.classes or ()
    example = f"{python_literal(classes[0])}, " if classes else ""
    text = USE.format(source="<this repository or folder>", example=example)
    return text + (f"\n\nClasses: {', '.join(map(markdown, classes))}." if classes else "")


def _training(metadata: ModelMetadata) -> dict[str, object]:
    contract = metadata.contract
    return {
        "dataset": metadata.dataset,
        "license of the images": metadata.license,
        "image size": f"{contract.image_size} px, crop: {contract.crop}",
        "latents": " x ".join(map(str, contract.latent_shape)),
        "weights of the autoencoder": f"sha256 {contract.autoencoder_digest}",
        "license of the autoencoder": contract.autoencoder.license,
        "digest of the latents": metadata.latents_digest,
        "epochs": metadata.num_epochs,
        "optimizer steps": metadata.num_steps,
        **metadata.recipe,
    }


def _scores(content: dict | None) -> str:
    if content is None:
        return "Not evaluated."
    scores = PublishedScores.model_validate(content)
    protocol = scores.protocol
    sampling = ", ".join(f"{key} {value}" for key, value in protocol.sampling.items())
    numbers = scores.model_extra or {}
    figures = {k: f"{one:.4g}" for k, one in numbers.items() if isinstance(one, int | float)}
    for key, (low, high) in scores.intervals.items():
        if key in figures:
            figures[key] += f" [{low:.4g}, {high:.4g}]"
    paragraphs = [
        *(f"> {markdown(quote)}" for quote in scores.quotes),
        f"{protocol.num_compared} samples against {protocol.num_reference} held-out images "
        f"({markdown(sampling)}), by the features of {markdown(protocol.feature_network)}: scores "
        "compare at equal numbers, sizes and features only. `train_fd` and `train_kid` are what "
        "real images get in place of samples. Brackets hold 95 % intervals over samples.",
        _table(figures),
    ]
    return "\n\n".join(paragraphs)


def _table(rows: Mapping[str, object]) -> str:
    lines = [f"| {markdown(key)} | {markdown(value)} |" for key, value in rows.items()]
    return "\n".join(["| key | value |", "|---|---|", *lines])
