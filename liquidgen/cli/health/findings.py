"""Results of the checks of `liquidgen doctor`."""

from dataclasses import dataclass
from enum import StrEnum

from liquidgen.utils.text import one_line


class Level(StrEnum):
    """Severity of a finding."""

    OK = "ok"
    NOTE = "note"  # works, but with limits
    WRONG = "wrong"


@dataclass(frozen=True)
class Finding:
    """Result of one check, printed as one line.

    Attributes:
        level: Severity.
        about: The part that was checked, in one word.
        found: Result, in words.
        remedy: Remedy; empty if none is needed.
    """

    level: Level
    about: str
    found: str
    remedy: str = ""

    def __str__(self) -> str:
        line = f"{self.level:<6}{self.about:<10}{self.found}"
        return one_line(f"{line}; {self.remedy}" if self.remedy else line)
