"""The model card: what a published model was trained on and how, its scores, its license."""

import json
from pathlib import Path

from huggingface_hub import ModelCard, ModelCardData

from liquidgen.models.model_folder import ModelMetadata

SCORES = Path("metrics/evaluate.json")
# that the hub knows by their identifiers; any other is told by its name
HUB_LICENSES = {"apache-2.0", "cc-by-4.0", "cc-by-nc-sa-4.0", "cc-by-sa-4.0", "cc0-1.0", "mit"}
USE = """```python
from liquidgen import LiquidGenPipeline

pipe = LiquidGenPipeline.from_pretrained("{source}")
pipe({example}num_images=4, seed=0).images
```"""


def read_scores(model_folder: Path, weights_digest: str) -> dict | None:
    """Scores that lie in the project of a model folder; None if they are not of these weights."""
    around = model_folder.resolve().parents
    path = around[2] / SCORES if len(around) > 2 else None
    if path is None or not path.is_file():
        return None
    scores = json.loads(path.read_bytes())
    drawn_by = scores["protocol"]["sampling"].get("weights_digest")
    return scores if drawn_by == weights_digest else None


def model_card(facts: ModelMetadata, scores: dict | None) -> ModelCard:
    """The card of a model, with the hub's metadata."""
    known = facts.license.lower() if facts.license.lower() in HUB_LICENSES else None
    data = ModelCardData(
        library_name="diffusers",
        pipeline_tag="unconditional-image-generation",
        tags=["liquidgen", "flow-matching", "attention-free"],
        license=known or "other",
        license_name=None if known else "license-of-the-training-images",
    )
    parts = [f"---\n{data.to_yaml()}\n---", f"# {facts.name}", _introduction(facts), "## Use"]
    parts += [_use(facts), "## Training", _table(_training(facts)), "## Scores", _scores(scores)]
    parts += ["## License", _license(facts)]
    return ModelCard("\n\n".join(parts) + "\n")


def _introduction(facts: ModelMetadata) -> str:
    kind = "unconditional" if facts.classes is None else f"class-conditional ({len(facts.classes)})"
    return (
        f"A LiquidGen model: a {kind} image generator of {facts.contract.image_size} px without "
        f"attention, {facts.parameters:,} parameters, trained by flow matching in the latent space "
        "of an autoencoder, which is included."
    )


def _use(facts: ModelMetadata) -> str:
    example = f'"{facts.classes[0]}", ' if facts.classes else ""
    text = USE.format(source="<this repository or folder>", example=example)
    return text + (f"\n\nClasses: {', '.join(facts.classes)}." if facts.classes else "")


def _training(facts: ModelMetadata) -> dict[str, object]:
    contract = facts.contract
    return {
        "dataset": facts.dataset,
        "license of the images": facts.license,
        "image size": f"{contract.image_size} px, crop: {contract.crop}",
        "latents": " x ".join(map(str, contract.latent_shape)),
        "weights of the autoencoder": f"sha256 {contract.autoencoder_digest}",
        "license of the autoencoder": contract.autoencoder.license,
        "digest of the latents": facts.latents_digest,
        "epochs": facts.num_epochs,
        "optimizer steps": facts.num_steps,
        **facts.recipe,
    }


def _scores(scores: dict | None) -> str:
    if scores is None:
        return "Not evaluated."
    protocol = scores["protocol"]
    sampling = ", ".join(f"{key} {value}" for key, value in protocol["sampling"].items())
    figures = {key: f"{value:.4g}" for key, value in scores.items() if key != "protocol"}
    return (
        f"{protocol['num_compared']} samples against {protocol['num_reference']} held-out images "
        f"({sampling}). The feature network is a small one of LiquidGen's own, not Inception: the "
        "numbers compare with LiquidGen runs only. `train_fd` and `train_kid` are what real images "
        f"get in the samples' place.\n\n{_table(figures)}"
    )


def _license(facts: ModelMetadata) -> str:
    return f"The model and what it draws carry the license of the training images: {facts.license}."


def _table(rows: dict[str, object]) -> str:
    lines = [f"| {key} | {value} |" for key, value in rows.items()]
    return "\n".join(["| what | value |", "|---|---|", *lines])
