"""Names of things on the hub."""

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import unquote

from liquidgen.utils.errors import UserError

ADDRESS = re.compile(r"hf://(?P<repo>[\w.-]+/[\w.-]+)@(?P<revision>[^/]+)(?:/(?P<folder>.+))?")
SCHEME = "hf://"
TOKENS = "https://huggingface.co/settings/tokens"


@dataclass(frozen=True)
class HubRepo:
    """A repository at a revision: a branch, a tag, a ref such as refs/convert/parquet, a commit."""

    type: Literal["dataset", "model"]
    repo: str
    revision: str

    def __str__(self) -> str:
        return f"{self.repo}@{self.revision}"

    @property
    def page(self) -> str:
        """Where a browser shows the repository."""
        return f"https://huggingface.co/{'datasets/' * (self.type == 'dataset')}{self.repo}"

    @property
    def cache(self) -> Path:
        """The repository's folder in the Hugging Face cache."""
        from huggingface_hub import constants
        from huggingface_hub.file_download import repo_folder_name

        name = repo_folder_name(repo_id=self.repo, repo_type=self.type)
        return Path(os.path.expanduser(constants.HF_HUB_CACHE)).resolve() / name


def model_folder(address: str) -> tuple[HubRepo, str]:
    """Place and folder ("" is the root) of an address hf://owner/name@revision/folder of a model.

    Raises:
        UserError: it has another form.
    """
    if not (found := ADDRESS.fullmatch(address)):
        raise UserError(
            f"path: {address!r} is no address of the form hf://owner/name@revision/folder, such as "
            "hf://madebyollin/taef1@main"
        )
    place = HubRepo("model", found["repo"], unquote(found["revision"]))
    return place, (found["folder"] or "").strip("/")
