"""Saved pipelines: where they come from, and what is looked at before one is loaded."""

import json
from pathlib import Path

from diffusers import DiffusionPipeline
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError

from liquidgen.errors import UserError


def downloaded(repo_id: str, revision: str | None, token: str | None) -> Path:
    """The folder of a repository's JSON and safetensors, and nothing else of it.

    Raises UserError where the hub does not give it.
    """
    patterns = ["*.json", "*.safetensors"]
    try:
        return Path(
            snapshot_download(repo_id, revision=revision, token=token, allow_patterns=patterns)
        )
    except (HfHubHTTPError, OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise UserError(
            f"{repo_id}: no such folder, and the hub does not give it, either ({reason}); correct "
            "the name, or give the folder of a model, such as data/models/<run>"
        ) from None


def check_index(folder: Path, class_name: str) -> None:
    """Refuse a folder that holds no saved pipeline of a class, before anything of it is loaded."""
    try:
        found = json.loads((folder / DiffusionPipeline.config_name).read_bytes())["_class_name"]
    except (FileNotFoundError, ValueError, KeyError):
        found = "neither a model.json nor a whole model_index.json"
    if found != class_name:
        raise UserError(f"{folder}: holds no LiquidGen model, but {found}; give another folder")
