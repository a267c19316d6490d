"""What `liquidgen doctor` finds."""

from dataclasses import dataclass
from enum import StrEnum


class Level(StrEnum):
    """How a finding is to be taken."""

    OK = "ok"
    NOTE = "note"  # works, but not all of it
    WRONG = "wrong"


@dataclass(frozen=True)
class Finding:
    """One line: what was looked at, what was found, and what to do about it."""

    level: Level
    about: str
    found: str
    remedy: str = ""

    def __str__(self) -> str:
        line = f"{self.level:<6}{self.about:<10}{self.found}"
        return f"{line}; {self.remedy}" if self.remedy else line
