"""Faults of a hub, on demand."""

import re
from dataclasses import dataclass, field


@dataclass
class Fault:
    """A fault of the answers to matching requests.

    Attributes:
        path: Regular expression that is searched for in the unquoted path of a request.
        method: Method of the requests; None: any.
        times: Number of requests that are left; None: all.
        status: This status is answered instead.
        code: X-Error-Code of that answer.
        message: Error message of that answer.
        headers: Headers of that answer.
        stall: The connection is accepted, and no answer comes.
        after: Bytes of the body that arrive well before a fault of it.
        cut: The connection ends in the middle of the body.
        silent: The connection stays open in the middle of the body, and nothing more comes.
        drip: Seconds per piece of the body.
        piece: Bytes per piece.
        damaged: One bit of the body is flipped.
        empty: The body is empty.
    """

    path: str
    method: str | None = None
    times: int | None = None
    status: int | None = None
    code: str | None = None
    message: str = "on demand"
    headers: dict[str, str] = field(default_factory=dict)
    stall: bool = False
    after: int = 0
    cut: bool = False
    silent: bool = False
    drip: float = 0.0
    piece: int = 1024
    damaged: bool = False
    empty: bool = False

    def matches(self, method: str, path: str) -> bool:
        """Return whether a request has the fault; if so, one time fewer is left."""
        if self.times == 0 or self.method not in (None, method) or not re.search(self.path, path):
            return False
        if self.times is not None:
            self.times -= 1
        return True
