"""Data that an earlier call from Python made, and that the same settings need not make anew.

In a checkout DVC knows that; calls from Python leave notes for themselves.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from liquidgen.runtime.fingerprint import fingerprint
from liquidgen.utils.errors import UserError
from liquidgen.utils.files import canonical_json, sha256, write_json


@dataclass(frozen=True)
class Note:
    """What a folder of data was made from, written down at `path`.

    | field | is |
    |---|---|
    | cause | all that the data depend on, but for the code |
    | module | what it imports makes the data |
    | digest_of | checks the data and gives their digest; raises UserError for damage |
    """

    path: Path
    module: str
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
        cause = sha256(canonical_json({"cause": self.cause, "code": fingerprint(self.module)}))
        return {"cause": cause, "data": self.digest_of()}
