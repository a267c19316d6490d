"""Names of things on the hub."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

TOKENS = "https://huggingface.co/settings/tokens"


@dataclass(frozen=True)
class Place:
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
