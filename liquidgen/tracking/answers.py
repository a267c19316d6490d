"""Bounds of the answers that MLflow's client reads."""

import time
from functools import partial
from typing import Any

MAX_SECONDS = 20.0
MAX_BYTES = 2**26


def bound_answers() -> None:
    """Give up an answer that drips or never ends.

    MLflow's own time limit is that of the silence between two bytes, and an answer without an end
    would fill the memory. MLflow has no setting for it, hence the private function; a later version
    without it only waits longer, in a thread of its own.
    """
    from mlflow.utils import rest_utils

    request = getattr(rest_utils, "_get_http_response_with_retries", None)
    if request and not isinstance(request, partial):
        bounded = partial(request, hooks={"response": _read})
        rest_utils._get_http_response_with_retries = bounded


def _read(response: Any, **options: Any) -> None:
    """Read the body of a response."""
    from requests.exceptions import Timeout

    if options.get("stream"):
        return
    deadline = time.monotonic() + MAX_SECONDS
    body = bytearray()
    while chunk := response.raw.read1(2**16, decode_content=True):
        body += chunk
        if len(body) > MAX_BYTES or time.monotonic() > deadline:
            response.close()
            raise Timeout("the answer does not end")
    response._content = bytes(body)
