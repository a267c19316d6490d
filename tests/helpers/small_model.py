"""A small model with random weights, as the stage train leaves one: fast to draw from."""

from pathlib import Path

import torch

from helpers.small_latents import MADE
from liquidgen.config.params import load_params
from liquidgen.config.settings import AutoencoderSettings
from liquidgen.generator.model_folder import ModelMetadata, save_model
from liquidgen.latents.autoencoder import load_autoencoder
from liquidgen.latents.contract import LatentContract
from liquidgen.models.liquidnet import LiquidNet

CLASSES = ("hills", "marble", "dots")
IMAGE_SIZE = 32
BUILTIN = AutoencoderSettings(**load_params().raw["autoencoders"]["builtin"])
LIQUID = load_params().raw["blocks"]["liquid"]


def metadata(classes: tuple[str, ...] | None, **contract: object) -> ModelMetadata:
    """Return the metadata of a small model; keyword arguments change its latent contract."""
    fields = {
        "autoencoder": BUILTIN,
        "autoencoder_digest": load_autoencoder(BUILTIN, "cpu").digest,
        "image_size": IMAGE_SIZE,
        "mean": (0.1,) * 16,
        "std": (0.6,) * 16,
    }
    return ModelMetadata(
        name="dots-32",
        classes=classes,
        contract=LatentContract(**MADE | fields | contract),
        dataset="dots",
        license="CC-BY-4.0",
        recipe={"batch_size": 32, "label_dropout": 0.1},
        latents_digest="0123456789abcdef",
        num_epochs=1,
        num_steps=1,
        parameters=1,
    )


def network(num_classes: int) -> LiquidNet:
    """Return a small network; as initialized it would draw the same images for all classes."""
    torch.manual_seed(0)
    model = LiquidNet(16, IMAGE_SIZE // 8, num_classes, [16, 32], [4, 2], 32, 1, "liquid", LIQUID)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
        model.condition.label.weight *= 20  # classes that differ clearly
    return model


def save(folder: Path, classes: tuple[str, ...] | None) -> Path:
    """Write the folder of a model; returns it."""
    save_model(folder, network(len(classes or ())), metadata(classes), "run")
    return folder
