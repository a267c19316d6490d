"""Data that an earlier call from Python made, and that the same settings need not make anew.

In a checkout DVC knows that; calls from Python leave notes for themselves.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from liquidgen.errors import UserError
from liquidgen.files import canonical_json, file_sha256, sha256, write_json


@dataclass(frozen=True)
class Note:
    """What a folder of data was made from, written down at `path`.

    | field | is |
    |---|---|
    | cause | all that the data depend on, but for the code |
    | digest_of | checks the data and gives their digest; raises UserError for damage |
    """

    path: Path
    cause: dict[str, Any]
    digest_of: Callable[[], str]

    def holds(self) -> bool:
        """Whether the data are there, whole, and from this cause."""
        try:
            return json.loads(self.path.read_bytes()) == self._content()
        except (FileNotFoundError, ValueError, UserError):  # none, or damaged: to be made anew
            return False

    def write(self) -> None:
        """Remember the data that are there now."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_json(self.path, self._content())

    def _content(self) -> dict[str, str]:
        cause = sha256(canonical_json({"cause": self.cause, "code": _code_digest()}))
        return {"cause": cause, "data": self.digest_of()}


@cache
def _code_digest() -> str:
    """Digest of the whole package: who edits it should use DVC, which looks closer."""
    files = sorted(Path(__file__).parent.rglob("*.py"))
    return sha256("".join(file_sha256(path) for path in files).encode())
