"""HTTP that never waits for ever: the hub's clients set no time limit on most requests."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from http import HTTPStatus
from threading import Thread
from typing import TYPE_CHECKING, Any, TypeVar

from liquidgen.hub.errors import unreachable

if TYPE_CHECKING:
    import httpx2

Result = TypeVar("Result")
PATIENCE = 60  # seconds that the hub may ask to wait for when it limits the rate
BACKOFF = (1, 2, 4, 8)  # seconds between attempts
_depth = 0  # of `bounded_requests` within one another


@contextmanager
def bounded_requests(silence: float | None = None) -> Iterator[None]:
    """Meanwhile every request of huggingface_hub has time limits, also where it sets none.

    `silence` is for those: seconds without a byte. None: what HF_HUB_DOWNLOAD_TIMEOUT says.
    """
    from huggingface_hub import set_client_factory
    from huggingface_hub.utils._http import default_client_factory

    def client() -> "httpx2.Client":
        made = default_client_factory()
        hooks = made.event_hooks
        made.event_hooks = {
            "request": [*hooks["request"], partial(_limit_silence, silence)],
            "response": [*hooks["response"], _limit_patience],
        }
        return made

    global _depth
    if _depth == 0:
        set_client_factory(client)
    _depth += 1
    try:
        yield
    finally:
        _depth -= 1
        if _depth == 0:
            set_client_factory(default_client_factory)


def _limit_silence(silence: float | None, request: "httpx2.Request") -> None:
    from huggingface_hub import constants

    limits = request.extensions.get("timeout") or {}
    # 10 seconds unless the user sets that variable
    limit = silence or constants.HF_HUB_DOWNLOAD_TIMEOUT
    kinds = ("connect", "read", "write", "pool")
    request.extensions["timeout"] = {kind: limits.get(kind) or limit for kind in kinds}


def _limit_patience(response: "httpx2.Response") -> None:
    # otherwise its client sleeps as long as it is told, an hour too
    from huggingface_hub import hf_raise_for_status

    if response.status_code == HTTPStatus.TOO_MANY_REQUESTS and waiting_time(response) > PATIENCE:
        response.read()
        hf_raise_for_status(response)


def waiting_time(response: "httpx2.Response") -> int:
    """Seconds that an answer asks to wait, 0 if it says nothing."""
    asked = response.headers.get("Retry-After", "")
    return int(asked) if asked.isdigit() else 0


def worth_another_try(error: Exception) -> bool:
    """Whether the same request may succeed a little later."""
    import httpx2
    from huggingface_hub.errors import HfHubHTTPError

    if isinstance(error, HfHubHTTPError):
        status = error.response.status_code
        if status == HTTPStatus.TOO_MANY_REQUESTS:
            return waiting_time(error.response) <= PATIENCE
        return status >= HTTPStatus.INTERNAL_SERVER_ERROR or status == HTTPStatus.REQUEST_TIMEOUT
    return isinstance(error, httpx2.TransportError)


def pause(error: Exception, seconds: int) -> None:
    """Wait before another attempt, for as long as the answer asks if it does."""
    response = getattr(error, "response", None)
    time.sleep(max(seconds, waiting_time(response) if response is not None else 0))


def within(seconds: float, function: Callable[[], Result]) -> Result:
    """The result of a function that may hang where no time limit reaches, such as in DNS.

    Raises:
        Unreachable: it takes longer; it is left to itself then.
    """
    outcome: dict[str, Any] = {}

    def run() -> None:
        try:
            outcome["result"] = function()
        except Exception as error:
            outcome["error"] = error

    thread = Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    if thread.is_alive():
        raise unreachable(f"no answer within {seconds:g} s")
    if "error" in outcome:
        raise outcome["error"]
    return outcome["result"]
