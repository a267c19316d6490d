"""Download and publish saved pipelines."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path
from tempfile import TemporaryDirectory

from huggingface_hub import create_repo, is_offline_mode, snapshot_download, upload_folder
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    RepositoryNotFoundError,
)

from liquidgen.hub.errors import Unreachable, explained
from liquidgen.hub.repository import TOKENS, HubRepo
from liquidgen.hub.session import bounded_requests
from liquidgen.utils.errors import UserError

SILENCE = 60  # seconds without a byte; the hub takes its time for a commit


def downloaded(repo_id: str, weights: str, revision: str | None, token: str | None) -> Path:
    """Download the JSON files and the weights of a repository, and nothing else of it.

    Args:
        repo_id: Name of the repository.
        weights: Name of the files of weights.
        revision: Branch, tag or commit; None: the main branch.
        token: Token for the hub; None: that of the environment.

    Returns:
        The folder of the files.

    Raises:
        Unreachable: Neither the hub nor the cache has them.
        UserError: No such repository or revision, no access, or a limited rate.
    """
    repo = HubRepo("model", repo_id, revision or "main")
    patterns = ["*.json", f"*/{weights}"]
    with _naming_folder(repo_id), bounded_requests(), explained(repo):
        try:
            return Path(
                snapshot_download(repo_id, revision=revision, token=token, allow_patterns=patterns)
            )
        except GatedRepoError:  # a kind of RepositoryNotFoundError
            raise
        except (RepositoryNotFoundError, HFValidationError):
            raise UserError(
                f"{repo_id}: no such folder, and the hub has no such repository, or a private one; "
                "correct the name, give the folder of a model, such as data/models/<run> (`dvc exp "
                "apply` brings back that of an experiment), or set HF_TOKEN to a token that may "
                f"read the repository ({TOKENS})"
            ) from None


@contextmanager
def _naming_folder(name: str) -> Iterator[None]:
    """Say of a name that the hub was asked for only because there is no such folder."""
    try:
        yield
    except Unreachable as error:
        rest = str(error).removeprefix(error.reason)
        raise Unreachable(f"{name}: no such folder; {error.reason}", rest) from None


def published(
    write: Callable[[Path], None],
    repo_id: str,
    private: bool | None,
    token: str | None,
    commit_message: str,
) -> str:
    """Upload a folder to a repository, which is created if there is none.

    Args:
        write: Function that writes the files into a folder.
        repo_id: Name of the repository.
        private: Whether a new repository is private; None: the default of its owner.
        token: Token for the hub; None: that of the environment.
        commit_message: Message of the commit.

    Returns:
        URL of the commit.

    Raises:
        UserError: The hub refuses, or cannot be reached.
    """
    if is_offline_mode():
        raise UserError(f"{repo_id}: HF_HUB_OFFLINE is set; unset it to publish")
    repo = HubRepo("model", repo_id, "main")
    with bounded_requests(SILENCE), explained(repo), TemporaryDirectory() as folder:
        try:
            repository = create_repo(repo_id, private=private, token=token, exist_ok=True)
            write(Path(folder))
            return upload_folder(
                repo_id=repository.repo_id,
                folder_path=folder,
                token=token,
                commit_message=commit_message,
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
                f"{repo_id}: the hub refuses it ({reason}); set HF_TOKEN to a token that may "
                f"write there ({TOKENS}), or run `hf auth login`"
            ) from None
