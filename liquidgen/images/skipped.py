"""The files and images that a stage left out, as `skipped.csv` beside its output."""

import csv
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from liquidgen.utils.files import SKIPPED
from liquidgen.utils.text import escaped, shown


class SkippedImages:
    """Path and reason of each file or image that was left out.

    Args:
        entries: Paths and reasons to begin with.

    Attributes:
        entries: Paths and reasons, in the order in which they were added.
    """

    def __init__(self, entries: Iterable[tuple[str, str]] = ()) -> None:
        self.entries = list(entries)

    def add(self, path: str, reason: str) -> None:
        """Add a file or image."""
        self.entries.append((path, str(reason)))

    @property
    def counts(self) -> Counter[str]:
        """Numbers of files or images by reason."""
        return Counter(reason for _, reason in self.entries)

    def write(self, folder: Path, name: str = SKIPPED) -> None:
        """Write the table into a folder, sorted by path; without entries there is no file.

        Bytes of paths that are not UTF-8, and control characters, are written as escapes.
        """
        if not self.entries:
            return
        with open(folder / name, "w", newline="", encoding="utf-8") as file:
            table = csv.writer(file, lineterminator="\n")
            table.writerow(("path", "reason"))
            table.writerows(sorted((escaped(path), reason) for path, reason in self.entries))

    @classmethod
    def read(cls, folder: Path) -> "SkippedImages":
        """Read `skipped.csv` of a folder, which need not have one."""
        path = folder / SKIPPED
        if not path.exists():
            return cls()
        with open(path, newline="", encoding="utf-8") as file:
            return cls((row["path"], row["reason"]) for row in csv.DictReader(file))

    def examples(self, folder: Path) -> str:
        """Return the end of a closing line: the first path of each reason; "" without entries."""
        if not self.entries:
            return ""
        first: dict[str, str] = {}
        for path, reason in sorted(self.entries):
            first.setdefault(reason, path)
        named = ", ".join(f"{shown(path)} ({reason})" for reason, path in sorted(first.items()))
        others = len(self.entries) - len(first)
        return f"; {folder / SKIPPED} lists them: {named}" + (
            f" and {others} more" if others else ""
        )
