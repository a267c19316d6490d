"""What the hub refuses or fails to do, in one line with the remedy."""

from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus

from liquidgen.hub.repository import TOKENS, HubRepo
from liquidgen.utils.errors import UserError

AGAIN = "run it again: what has arrived is kept"


class Unreachable(UserError):
    """The hub does not answer, or must not be asked; `reason` is the message without what to do."""

    def __init__(self, reason: str, rest: str) -> None:
        super().__init__(reason + rest)
        self.reason = reason


@contextmanager
def explained(place: HubRepo) -> Iterator[None]:
    """Turn errors of the hub's clients into one line.

    Raises:
        Unreachable: no answer, or offline mode.
        UserError: anything else that the hub answers.
    """
    import httpx2
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    try:
        yield
    except OfflineModeIsEnabled:
        raise offline(place) from None
    except HfHubHTTPError as error:
        raise UserError(_refused(place, error)) from None
    except httpx2.TransportError as error:
        raise unreachable(str(error) or type(error).__name__) from None


def unreachable(reason: str) -> Unreachable:
    """The error for a hub that does not answer."""
    from huggingface_hub import constants

    return Unreachable(
        f"{constants.ENDPOINT}: the hub cannot be reached ({reason})",
        f"; check the connection (and HTTPS_PROXY, HF_ENDPOINT if you set them), then {AGAIN}",
    )


def offline(place: HubRepo) -> Unreachable:
    """The error for what is wanted in offline mode and is not there."""
    return Unreachable(
        f"{place}: HF_HUB_OFFLINE is set",
        f", and not all of it is in the cache ({place.cache}); unset it and run it again with a "
        "connection",
    )


def _refused(place: HubRepo, error: Exception) -> str:
    from huggingface_hub import errors, get_token

    status = error.response.status_code
    if isinstance(error, errors.GatedRepoError):
        token = "the token in use has not" if get_token() else "no token is set (HF_TOKEN)"
        return (
            f"{place.repo}: its owner wants terms accepted, and {token}; accept them at "
            f"{place.page}, then set HF_TOKEN to a token of that account ({TOKENS})"
        )
    if isinstance(error, errors.RevisionNotFoundError):
        return (
            f"{place.repo}: has no revision {place.revision!r}; correct it: {place.page}/tree/main "
            "lists them"
        )
    if isinstance(error, errors.RepositoryNotFoundError):
        return (
            f"{place.repo}: no such {place.type} on the hub, or a private one; correct the name, "
            f"or set HF_TOKEN to a token that may read it ({TOKENS})"
        )
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        return (
            f"{place.repo}: the hub limits the rate of requests{_waiting_time(error)}; wait, or "
            f"set HF_TOKEN ({TOKENS}), which allows more, then {AGAIN}"
        )
    if status == HTTPStatus.UNAUTHORIZED:
        return f"{place.repo}: the hub does not accept HF_TOKEN; unset it or make another: {TOKENS}"
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return f"{place.repo}: the hub is in trouble (status {status}); later, {AGAIN}"
    reason = " ".join(str(error.server_message or error).split())
    return f"{place.repo}: the hub refuses (status {status}): {reason}; see {place.page}"


def _waiting_time(error: Exception) -> str:
    seconds = error.response.headers.get("Retry-After", "")
    return f" (for another {seconds} s)" if seconds.isdigit() else ""
