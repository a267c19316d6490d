"""A time limit for calls that have none."""

from collections.abc import Callable
from threading import Thread
from typing import Any, TypeVar

Result = TypeVar("Result")


class NoAnswer(Exception):
    """A call took longer than its time limit."""


def within(seconds: float, function: Callable[[], Result]) -> Result:
    """Call a function that may hang.

    Raises:
        NoAnswer: It takes longer than `seconds`; its thread is abandoned.
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
        raise NoAnswer(f"no answer within {seconds:g} s")
    if "error" in outcome:
        raise outcome["error"]
    return outcome["result"]
