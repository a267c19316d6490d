"""Time limits for the requests of huggingface_hub, which sets none for many of them."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING, TypeVar

from liquidgen.hub.errors import unreachable, waiting_time
from liquidgen.utils import deadline

if TYPE_CHECKING:
    import httpx2

Result = TypeVar("Result")
PATIENCE = 300  # seconds to wait when told to: the hub counts requests in windows of 5 minutes


@contextmanager
def bounded_requests(silence: float | None = None) -> Iterator[None]:
    """Limit the time of every request that huggingface_hub makes within the context.

    Args:
        silence: Seconds without a byte after which a request fails that has no time limit of its
            own. None: HF_HUB_DOWNLOAD_TIMEOUT.
    """
    from huggingface_hub import get_session

    # the shared client, and so the user's own if there is one; nested calls each add their hooks
    client = get_session()
    request_hook = partial(_limit_silence, silence)
    # a hook of its own: the end of a nested call removes no other call's, which would be equal
    response_hook = partial(_limit_patience)
    hooks = client.event_hooks
    client.event_hooks = {
        "request": [*hooks["request"], request_hook],
        "response": [*hooks["response"], response_hook],
    }
    try:
        yield
    finally:
        client.event_hooks = {
            kind: [hook for hook in hooks if hook not in (request_hook, response_hook)]
            for kind, hooks in client.event_hooks.items()
        }


def _limit_silence(silence: float | None, request: "httpx2.Request") -> None:
    from huggingface_hub import constants

    limit = silence or constants.HF_HUB_DOWNLOAD_TIMEOUT
    own = request.extensions.get("timeout") or {}
    kinds = ("connect", "read", "write", "pool")
    request.extensions["timeout"] = {kind: own.get(kind) or limit for kind in kinds}


def _limit_patience(response: "httpx2.Response") -> None:
    # the library sleeps for as long as the hub asks, even if that is an hour
    from huggingface_hub import hf_raise_for_status

    if response.status_code == HTTPStatus.TOO_MANY_REQUESTS and waiting_time(response) > PATIENCE:
        response.read()
        hf_raise_for_status(response)


def within(seconds: float, function: Callable[[], Result]) -> Result:
    """Call a function that may hang where time limits of requests do not reach, such as in DNS.

    Raises:
        Unreachable: It takes longer than `seconds`; its thread is abandoned.
    """
    try:
        return deadline.within(seconds, function)
    except deadline.NoAnswer as error:
        raise unreachable(str(error)) from None
