"""Time limits of the requests of huggingface_hub."""

import threading
import time

import httpx2
import pytest
from helpers.standin import StandInHub
from huggingface_hub import HfApi, get_session
from huggingface_hub.errors import HfHubHTTPError

from liquidgen.hub.errors import Unreachable
from liquidgen.hub.session import PATIENCE, bounded_requests, within

pytestmark = pytest.mark.fault("a hub that does not answer")


def test_request_without_a_limit_gets_one(hub: StandInHub):
    with hub.fault("", stall=True), bounded_requests(0.2), pytest.raises(httpx2.ReadTimeout):
        HfApi().dataset_info("a/b")


def test_limit_of_a_request_is_kept(hub: StandInHub):
    with hub.fault("", stall=True), bounded_requests(60), pytest.raises(httpx2.ReadTimeout):
        HfApi().dataset_info("a/b", timeout=0.2)


def test_long_wait_is_refused_at_once(hub: StandInHub):
    headers = {"Retry-After": str(PATIENCE + 1)}
    with hub.fault("", status=429, headers=headers), bounded_requests():
        start = time.monotonic()
        with pytest.raises(HfHubHTTPError, match="429"):
            [*HfApi().list_repo_tree("a/b", repo_type="dataset")]
    assert time.monotonic() - start < 5


def test_client_is_left_as_it_was(hub: StandInHub):
    before = get_session().event_hooks
    first = bounded_requests(1)
    second = bounded_requests(2)
    first.__enter__()
    second.__enter__()
    assert get_session().event_hooks != before
    first.__exit__(None, None, None)  # two threads may end in any order
    second.__exit__(None, None, None)
    assert get_session().event_hooks == before


def test_function_that_hangs_is_left_behind():
    event = threading.Event()
    with pytest.raises(Unreachable, match=r"no answer within 0\.1 s"):
        within(0.1, event.wait)
    event.set()
    assert within(5, lambda: 7) == 7
    with pytest.raises(ZeroDivisionError):
        within(5, lambda: 1 // 0)
