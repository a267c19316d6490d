"""What a hub does wrong, on demand."""

import re
from dataclasses import dataclass, field


@dataclass
class Fault:
    """Something that befalls requests whose path matches, `times` times (None: always).

    | effect | what the client sees |
    |---|---|
    | status, code, message, headers | this answer instead, with `code` as X-Error-Code |
    | stall | an accepted connection and no answer |
    | after | the body goes on well so far (bytes), then comes what follows |
    | cut | the connection ends in the middle of the body |
    | silent | the connection stays, and nothing more comes |
    | drip | seconds a piece of `piece` bytes |
    | damaged | a whole body with one bit turned |
    | empty | a whole answer without a body |
    """

    path: str  # regular expression, searched for in the request's path, unquoted
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

    def befalls(self, method: str, path: str) -> bool:
        """Whether it does; if so, one time fewer is left."""
        if self.times == 0 or self.method not in (None, method) or not re.search(self.path, path):
            return False
        if self.times is not None:
            self.times -= 1
        return True
