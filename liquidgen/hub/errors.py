"""Errors of the hub and of its client libraries in one line, with what to do."""

from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from json import JSONDecodeError
from typing import TYPE_CHECKING

from liquidgen.hub.repository import TOKENS, HubRepo
from liquidgen.utils.errors import UserError

if TYPE_CHECKING:
    import httpx2
    from huggingface_hub.errors import HfHubHTTPError

RETRY_HINT = "run it again"


class Unreachable(UserError):
    """The hub does not answer, or offline mode forbids requests.

    Attributes:
        reason: The first part of the message, without what to do.
    """

    def __init__(self, reason: str, rest: str) -> None:
        super().__init__(reason + rest)
        self.reason = reason


@contextmanager
def explained(repo: HubRepo) -> Iterator[None]:
    """Turn errors of the hub's client libraries into one line.

    Raises:
        Unreachable: No answer, or offline mode.
        UserError: The hub refuses, or a transfer failed.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        if (explanation := _explanation(repo, error)) is None:
            raise
        raise explanation from None


def unreachable(reason: str) -> Unreachable:
    """Return the error for a hub that does not answer."""
    from huggingface_hub import constants

    return Unreachable(
        f"{constants.ENDPOINT}: the hub cannot be reached ({reason})",
        f"; check the connection (and HTTPS_PROXY, HF_ENDPOINT if you set them), then {RETRY_HINT}",
    )


def waiting_time(response: "httpx2.Response") -> int:
    """Return the seconds that an answer asks to wait, 0 if it does not say."""
    asked = response.headers.get("Retry-After", "")
    return int(asked) if asked.isdigit() else 0


def _explanation(repo: HubRepo, error: BaseException) -> UserError | None:
    """Explain an error, or what it was raised from: the libraries wrap most of them."""
    import httpx2
    from huggingface_hub import errors

    cause: BaseException | None = error
    while cause is not None:
        match cause:
            case errors.OfflineModeIsEnabled():
                return _offline(repo)
            case errors.HfHubHTTPError():
                return UserError(_refused(repo, cause))
            case httpx2.TransportError():
                return unreachable(str(cause) or type(cause).__name__)
            case JSONDecodeError():  # such as a login page of the network
                return unreachable("something else answers in its place")
        cause = cause.__cause__
    # the libraries' own (a file of another size, Xet's) have no number, the system's have one
    if isinstance(error, RuntimeError) or (isinstance(error, OSError) and error.errno is None):
        reason = str(error).partition("\n")[0] or type(error).__name__
        return UserError(f"{repo}: a transfer failed ({reason}); {RETRY_HINT}")
    return None


def _offline(repo: HubRepo) -> Unreachable:
    from huggingface_hub import constants

    return Unreachable(
        f"{repo}: HF_HUB_OFFLINE is set",
        f", and not all of it is in the cache ({constants.HF_HUB_CACHE}); unset it and run it "
        "again with a connection",
    )


def _refused(repo: HubRepo, error: "HfHubHTTPError") -> str:
    from huggingface_hub import errors, get_token

    status = error.response.status_code
    if isinstance(error, errors.GatedRepoError):
        token = "no token is set (HF_TOKEN)"
        if get_token():
            token = "the account of the token in use has not accepted them"
        return (
            f"{repo.name}: requires that its terms are accepted, and {token}; accept them at "
            f"{repo.page}, then set HF_TOKEN to a token of that account ({TOKENS})"
        )
    if isinstance(error, errors.RevisionNotFoundError):
        return (
            f"{repo.name}: has no revision {repo.revision!r}; correct it: {repo.page}/tree/main "
            "lists them"
        )
    if isinstance(error, errors.RepositoryNotFoundError):
        return (
            f"{repo.name}: no such {repo.type} on the hub, or a private one; correct the name, "
            f"or set HF_TOKEN to a token that may read it ({TOKENS})"
        )
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        seconds = waiting_time(error.response)
        duration = f" (for another {seconds} s)" if seconds else ""
        return (
            f"{repo.name}: the hub limits the rate of requests{duration}; wait, or set HF_TOKEN "
            f"({TOKENS}), which allows more, then {RETRY_HINT}"
        )
    if status == HTTPStatus.UNAUTHORIZED:
        return f"{repo.name}: the hub does not accept HF_TOKEN; unset it or make another: {TOKENS}"
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return f"{repo.name}: the hub returned status {status}; {RETRY_HINT} later"
    reason = " ".join(str(error.server_message or error).split())
    return f"{repo.name}: the hub refuses (status {status}): {reason}; see {repo.page}"
