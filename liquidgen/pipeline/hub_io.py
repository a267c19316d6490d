"""Saved pipelines on the hub, and what is looked at before one is loaded."""

import json
from collections.abc import Callable
from http import HTTPStatus
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx2
from diffusers import DiffusionPipeline
from huggingface_hub import create_repo, is_offline_mode, snapshot_download, upload_folder
from huggingface_hub.errors import HfHubHTTPError, HFValidationError

from liquidgen.hub.errors import explained
from liquidgen.hub.repository import TOKENS, HubRepo
from liquidgen.hub.session import bounded_requests
from liquidgen.utils.errors import UserError

SILENCE = 60  # seconds that the hub may take over a commit


def downloaded(repo_id: str, revision: str | None, token: str | None) -> Path:
    """The folder of a repository's JSON and safetensors, and nothing else of it.

    Raises UserError where the hub does not give it.
    """
    patterns = ["*.json", "*.safetensors"]
    try:
        with bounded_requests():
            return Path(
                snapshot_download(repo_id, revision=revision, token=token, allow_patterns=patterns)
            )
    except (HfHubHTTPError, httpx2.TransportError, OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise UserError(
            f"{repo_id}: no such folder, and the hub does not give it, either ({reason}); correct "
            "the name, or give the folder of a model, such as data/models/<run>"
        ) from None


def published(
    write: Callable[[Path], None],
    repo_id: str,
    private: bool | None,
    token: str | None,
    commit_message: str,
) -> str:
    """Put the folder that `write` fills into a repository, made if need be; the commit's URL.

    Raises UserError where the hub does not take it, or cannot be reached.
    """
    if is_offline_mode():
        raise UserError(f"{repo_id}: HF_HUB_OFFLINE is set; unset it to publish")
    place = HubRepo("model", repo_id, "main")
    with bounded_requests(SILENCE), explained(place), TemporaryDirectory() as folder:
        try:
            made = create_repo(repo_id, private=private, token=token, exist_ok=True)
            write(Path(folder))
            return upload_folder(
                repo_id=made.repo_id, folder_path=folder, token=token, commit_message=commit_message
            )
        except HFValidationError:
            raise UserError(
                f"{repo_id!r}: no name of a repository; give one of the form owner/name, in "
                "letters, digits, `.`, `-` and `_`"
            ) from None
        except HfHubHTTPError as error:
            if error.response.status_code not in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
                raise
            reason = " ".join(str(error.server_message or error).split())
            raise UserError(
                f"{repo_id}: the hub does not take it ({reason}); set HF_TOKEN to a token that may "
                f"write there ({TOKENS}), or run `hf auth login`"
            ) from None


def check_index(folder: Path, class_name: str) -> None:
    """Refuse a folder that holds no saved pipeline of a class, before anything of it is loaded."""
    try:
        found = json.loads((folder / DiffusionPipeline.config_name).read_bytes())["_class_name"]
    except (FileNotFoundError, ValueError, KeyError):
        found = "neither a model.json nor a whole model_index.json"
    if found != class_name:
        raise UserError(f"{folder}: holds no LiquidGen model, but {found}; give another folder")
