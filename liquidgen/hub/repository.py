"""Names and addresses of repositories on the hub."""

import re
from dataclasses import dataclass
from typing import Literal
from urllib.parse import unquote

from liquidgen.utils.errors import UserError

ADDRESS = re.compile(r"hf://(?P<repo>[\w.-]+/[\w.-]+)@(?P<revision>[^/]+)(?:/(?P<folder>.+))?")
SCHEME = "hf://"
TOKENS = "https://huggingface.co/settings/tokens"


@dataclass(frozen=True)
class HubRepo:
    """A repository at a revision.

    Attributes:
        type: Kind of repository.
        name: Its name, `owner/name`.
        revision: A branch, a tag, a ref such as refs/convert/parquet, or a commit.
    """

    type: Literal["dataset", "model"]
    name: str
    revision: str

    def __str__(self) -> str:
        return f"{self.name}@{self.revision}"

    @property
    def page(self) -> str:
        """Address of the repository's page in a browser."""
        return f"https://huggingface.co/{'datasets/' * (self.type == 'dataset')}{self.name}"


def parse_address(address: str) -> tuple[HubRepo, str]:
    """Parse the address of a model's folder, hf://owner/name@revision/folder.

    Returns:
        The repository, and the folder in it ("" is the root).

    Raises:
        UserError: The address has another form.
    """
    if not (found := ADDRESS.fullmatch(address)):
        raise UserError(
            f"path: {address!r} is no address of the form hf://owner/name@revision/folder, such as "
            "hf://madebyollin/taef1@main"
        )
    repo = HubRepo("model", found["repo"], unquote(found["revision"]))
    return repo, (found["folder"] or "").strip("/")
